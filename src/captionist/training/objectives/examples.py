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
    """int64 [B, C, T], filled with IGNORE; see `VisionPrefixLM.read`."""
    weights: Tensor | None = None
    """float [B, C], what each caption's loss is multiplied by; none: 1."""
    pixels: Tensor | None = None
    """float [B, 3, H, W]."""
    features: Tensor | None = None
    """float [B, F, C], what a frozen backbone made of the pictures; with neither, there are no pictures."""
    annotations: Mapping[str, Tensor] = field(default_factory=dict)
    """By name, float [B, ...]; see `training.annotations`."""
    draws: Tensor | None = None
    """float [B, `Objective.draws`], uniform from 0 to 1: what is random for each example."""
    written: Tensor | None = None
    """int64 [B, S, T], captions that the model wrote of each picture, filled with IGNORE; see `judging.Writer`."""
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
"""A step's examples, or one process's part of them: of each source some."""


class Seen(NamedTuple):
    """Examples, and what the model sees of them: visual tokens float [B, P, W]."""

    examples: Examples
    visual_tokens: Tensor


def look(model: VisionPrefixLM, examples: Examples, feature_dropout: float = 0) -> Tensor:
    """Visual tokens float [B, P, W]; of texts without pictures, those that stand for none."""
    if examples.features is not None:
        return model.project(examples.features, feature_dropout, **examples.annotations)
    if examples.pixels is not None:
        return model.encode(examples.pixels, feature_dropout, **examples.annotations)
    return model.unseen(len(examples.captions), **examples.annotations)
