"""A bundle's weights, read back from its graphs into torch and transformers, to be run there as others would."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from transformers import Dinov2Config, GPT2Config, GPT2LMHeadModel

from captionist.bundle import ENCODER, PREFILL, Bundle
from captionist.model.config import HybridConfig
from captionist.model.fusion import _pooling_matrix
from captionist.model.vision import HybridEncoder

_VIT_S = Dinov2Config(hidden_size=384, num_attention_heads=6)


class Encoder(nn.Module):
    """Pixels float [B, 3, H, W] -> visual prefix float [B, P, D], in eager torch."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        weights = _weights(bundle.path / ENCODER)
        blocks = {name.split(".")[3] for name in weights if name.startswith("model.encoder.blocks.")}
        settings: Any = _VIT_S
        settings._attn_implementation = "sdpa"
        resolution = bundle.config.image.height
        self.encoder = HybridEncoder(
            HybridConfig(stem_weights="", weights="", blocks=len(blocks), resolution=resolution), settings
        )
        self.projection = nn.Linear(self.encoder.width, bundle.config.decoder.width)
        self.pooling: Tensor
        self.register_buffer("pooling", _pooling_matrix(self.encoder.grid, bundle.config.grid[0]), persistent=False)
        weights.pop("model.pooling", None)
        self.load_state_dict(
            {name.removeprefix("model."): torch.from_numpy(weight) for name, weight in weights.items()}
        )
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        prefix: Tensor = self.projection(self.pooling @ self.encoder(pixels))
        return prefix


def decoder(bundle: Bundle) -> GPT2LMHeadModel:
    """The bundle's decoder as transformers' own GPT-2."""
    sizes = bundle.config.decoder
    settings = GPT2Config(
        vocab_size=bundle.config.vocabulary_size,
        n_positions=sizes.max_tokens + bundle.config.prefix_length + 1,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        activation_function="gelu",
        bos_token_id=sizes.bos_id,
        eos_token_id=sizes.eos_id,
        pad_token_id=sizes.eos_id,
    )
    model = GPT2LMHeadModel(settings).eval()
    state = {}
    for name, weight in _weights(bundle.path / PREFILL).items():
        place = name.removeprefix("model.decoder.").replace("blocks.", "h.")
        for part in (".c_fc", ".c_proj"):
            if ".attn" not in place:
                place = place.replace(part, f".mlp{part}")
        matrix = weight.ndim == 2 and ".h." in f".{place}"
        state[f"transformer.{place}"] = torch.from_numpy(weight.T.copy() if matrix else weight)
    missing = model.load_state_dict(state, strict=False).missing_keys
    if missing != ["lm_head.weight"]:
        raise ValueError(f"the graph lacks {missing}")
    model.tie_weights()
    return model


def _weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """A graph's weights by the names that they have in torch, matrices as nn.Linear has them.

    The exporter keeps the names of all but those matrices that it transposed; each stands before the addition of its
    bias.
    """
    graph = onnx.load(path).graph
    tensors = {t.name.removesuffix(".half"): numpy_helper.to_array(t) for t in graph.initializer}
    weights = {name: value.astype(np.float32) for name, value in tensors.items() if name.startswith("model.")}
    products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type == "Add" and node.input[0] in products and node.input[1].endswith(".bias"):
            name = node.input[1].removesuffix(".bias") + ".weight"
            weights[name] = tensors[products[node.input[0]]].astype(np.float32).T.copy()
    return weights
