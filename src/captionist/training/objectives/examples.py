"""What a step shows the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM


@dataclass(frozen=True)
class Examples:
    """B examples of one source: pictures with captions, or captions alone."""

    captions: Tensor
    """int64 [B, C, T], padded with IGNORE; see `VisionPrefixLM.read`."""
    weights: Tensor | None = None
    """float [B, C], what each caption's loss is multiplied by; None: 1."""
    pixels: Tensor | None = None
    """float [B, 3, H, W]."""
    features: Tensor | None = None
    """float [B, F, C], a frozen backbone's features of the pictures; without either, there are no pictures."""
    annotations: Mapping[str, Tensor] = field(default_factory=dict)
    """By name, float [B, ...]; see `training.annotations`."""
    draws: Tensor | None = None
    """float [B, `Objective.draws`], uniform from 0 to 1: each example's random numbers."""
    written: Tensor | None = None
    """int64 [B, S, T], captions that the model wrote for each picture, padded with IGNORE; see `judging.Writer`."""
    rewards: Tensor | None = None
    """float [B, S], how good they are."""
    source: str = ""
    rows: NDArray[np.int64] | None = None
    """int64 [B], which of its source's pictures, or texts, these are."""

    @property
    def pictured(self) -> bool:
        """Whether there are pictures."""
        return self.pixels is not None or self.features is not None


Batch = tuple[Examples, ...]
"""A step's examples, or one process's part of them: some from each source."""


class Seen(NamedTuple):
    """Examples, and the visual tokens that the model makes of them: float [B, P, W]."""

    examples: Examples
    visual_tokens: Tensor


def look(model: VisionPrefixLM, examples: Examples, feature_dropout: float = 0) -> Tensor:
    """Visual tokens float [B, P, W]; for texts without pictures, those that stand for no picture."""
    if examples.features is not None:
        return model.project(examples.features, feature_dropout, **examples.annotations)
    if examples.pixels is not None:
        return model.encode(examples.pixels, feature_dropout, **examples.annotations)
    return model.unseen(len(examples.captions), **examples.annotations)
