"""A classifier on the encoder's features that learns from the classifier with which the stem was published."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM
from captionist.training.objectives.examples import Seen

CLASSES = "classes"
"""The annotation that it learns from; see `training.seen`."""


@dataclass(frozen=True)
class Classifying:
    """Cross-entropy, summed, with the teacher's probabilities (Hinton et al. 2015, arXiv:1503.02531)."""

    weight: float

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        losses = [self._loss(model, one) for one in seen if one.examples.pictured]
        return self.weight * torch.stack(losses).sum()

    def _loss(self, model: VisionPrefixLM, seen: Seen) -> Tensor:
        assert model.words is not None  # the recipe has been checked
        found = model.words.classifier(model.seen(seen.visual_tokens).mean(1)).float().log_softmax(-1)
        loss: Tensor = -(seen.examples.annotations[CLASSES] * found).sum()
        return loss
