"""Cross-entropy on captions, with or without pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM
from captionist.training.objectives.examples import Seen


@dataclass(frozen=True)
class Captioning:
    """The cross-entropy of each token, summed, with each caption's multiplied by its weight."""

    label_smoothing: float = 0.0

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        return torch.stack([self._loss(model, one) for one in seen]).sum()

    def _loss(self, model: VisionPrefixLM, seen: Seen) -> Tensor:
        read = model.read(seen.visual_tokens, seen.examples.captions)
        loss = F.cross_entropy(read.logits.float(), read.labels, reduction="none", label_smoothing=self.label_smoothing)
        if seen.examples.weights is not None:
            loss = loss * seen.examples.weights.flatten()[read.captions]
        return loss.sum()
