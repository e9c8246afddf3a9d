"""An objective: a sum of losses on a batch, what to divide it by, and what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import IGNORE
from captionist.training.objectives.examples import Batch, Seen, look


class Loss(Protocol):
    """One loss, with its weight."""

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        """The loss of a batch, summed: float []. The loop divides by `Objective.size`."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The sum of some losses."""

    losses: tuple[Loss, ...]
    feature_dropout: float = 0.0
    """Share of the backbone's channels to drop; see `VisionPrefixLM.project`."""

    @property
    def dropout(self) -> bool:
        """Whether the model's own dropout is on during training."""
        return True

    @property
    def draws(self) -> int:
        """How many uniform numbers per example `prepare` takes, as `Examples.draws`."""
        return 0

    @property
    def prepares(self) -> bool:
        """Whether `prepare` does anything: if so, the weights that it needs must be whole."""
        return False

    def prepare(self, _model: VisionPrefixLM, batch: Batch) -> Batch:
        """The batch, with what the model itself must first add to it, made without gradients, in this process alone."""
        return batch

    def size(self, batch: Batch) -> int:
        """What the losses of this batch are divided by: the tokens of its captions, including ends."""
        return sum(count_tokens(examples.captions) for examples in batch)

    def __call__(self, model: VisionPrefixLM, batch: Batch) -> Tensor:
        """The losses' sum, float []."""
        seen = [Seen(examples, look(model, examples, self.feature_dropout)) for examples in batch]
        return torch.stack([loss(model, seen) for loss in self.losses]).sum()


def count_tokens(captions: Tensor) -> int:
    """How many tokens the loss of these captions counts: int64 [B, C, T], padded with IGNORE."""
    lengths = (captions != IGNORE).sum(2)
    return int((lengths + (lengths > 0)).sum())
