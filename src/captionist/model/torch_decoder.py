"""The `Decoder` protocol on torch, so that Captionist's search can run on a model in training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionist.inference.decoder import Step
from captionist.model.fusion import Decoded, VisionPrefixLM

Layers = tuple[Tensor, ...]
State = tuple[Tensor, Layers, Layers, Layers, Layers]
"""The arguments of `VisionPrefixLM.step` after the tokens."""


class TorchDecoder:
    """A VisionPrefixLM as a `Decoder`; it runs in inference mode, on the model's device."""

    def __init__(self, model: VisionPrefixLM) -> None:
        self.model = model

    @property
    def eos_id(self) -> int:
        return self.model.end_id

    @property
    def max_tokens(self) -> int:
        return int(self.model.decoder.config.n_positions) - self.model.prefix_length - 1

    def prefill(self, visual_tokens: Tensor) -> Step:
        """visual_tokens: float [B, P, W], from `VisionPrefixLM.encode`."""
        with torch.inference_mode():
            decoded = self.model.prefill(visual_tokens)
            rows, none = len(visual_tokens), self.model.no_tokens(decoded.keys, len(visual_tokens))
            picture = torch.arange(rows, device=visual_tokens.device)
            return _step(decoded, (picture, decoded.keys, decoded.values, none, none))

    def read(self, tokens: NDArray[np.int64], state: State) -> Step:
        """tokens: int64 [R, T]."""
        with torch.inference_mode():
            decoded = self.model.step(torch.from_numpy(tokens).to(state[0].device), *state)
            return _step(decoded, (*state[:3], decoded.keys, decoded.values))

    def step(self, tokens: NDArray[np.int64], state: State) -> Step:
        """tokens: int64 [R]."""
        return self.read(tokens[:, None], state).last()

    def reorder(self, state: State, rows: NDArray[np.int64]) -> State:
        picture, prefix_keys, prefix_values, keys, values = state
        index = torch.from_numpy(rows).to(picture.device)
        keys, values = (tuple(part[index] for part in layers) for layers in (keys, values))
        return picture[index], prefix_keys, prefix_values, keys, values


def _step(decoded: Decoded, state: State) -> Step:
    log_probs = decoded.logits.float().log_softmax(-1)
    return Step(log_probs.cpu().numpy(), decoded.attention.float().cpu().numpy(), state)
