"""Teaches pictures and sentences to find each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM
from captionist.training.objectives.examples import Batch, Examples, Seen
from captionist.training.objectives.judging import Writer
from captionist.training.objectives.objective import Objective
from captionist.training.teacher import Teacher


@dataclass(frozen=True)
class Contrast:
    """`Alignment.loss` of all pictures of the batch, whatever their source, and their captions."""

    weight: float = 1.0

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        assert model.alignment is not None  # the recipe has been checked
        pictured = [one for one in seen if one.examples.pictured]
        sentences = _joined([model.alignment.sentences(one.examples.captions) for one in pictured])
        return self.weight * model.alignment.loss(_images(model, pictured), sentences)


@dataclass(frozen=True)
class TaughtContrast:
    """The contrast with the sentence head's vectors and with a teacher's, and the distance between the two.

    The image head follows the teacher through a linear map. The sentence head learns the mapped vectors of sentences,
    including texts: where each is, and how near they are to each other (after Park et al. 2019, Relational Knowledge
    Distillation, arXiv:1904.05068).
    """

    teacher: Teacher
    distillation: float
    """How much the distance to the teacher counts."""
    own: float = 0.5
    """How much the contrast with the sentence head's own vectors counts, relative to that with the teacher's."""

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        alignment = model.alignment
        assert alignment is not None  # the recipe has been checked
        own = [alignment.sentences(one.examples.captions) for one in seen]
        taught = [alignment.taught(self._vectors(one.examples)) for one in seen]
        pictured = [place for place, one in enumerate(seen) if one.examples.pictured]
        images = _images(model, [seen[place] for place in pictured])
        contrast = self.own * alignment.loss(images, _joined([own[place] for place in pictured]))
        contrast = contrast + alignment.loss(images, _joined([taught[place] for place in pictured]))
        all_own, all_taught = (torch.cat([each.flatten(0, 1) for each in vectors]) for vectors in (own, taught))
        there = all_own.any(1)
        mine, theirs = all_own[there], all_taught[there].detach()
        apart = 1 - (mine * theirs).sum(1).mean() + _RELATIONS * F.mse_loss(mine @ theirs.T, theirs @ theirs.T)
        return contrast + self.distillation * len(images) * apart

    def _vectors(self, examples: Examples) -> Tensor:
        """The teacher's vectors of each caption."""
        assert examples.rows is not None
        found = self.teacher.vectors(examples.source, examples.rows, examples.captions.shape[1])
        return found.to(examples.captions.device)


_RELATIONS = 10.0  # weight of how near sentences are to each other, relative to where they are


def _images(model: VisionPrefixLM, pictured: Sequence[Seen]) -> Tensor:
    return torch.cat([model.embed(one.visual_tokens, one.examples.annotations.get("objects")) for one in pictured])


def _joined(sentences: Sequence[Tensor]) -> Tensor:
    """All sources' sentences together, padded with zeros, since sources differ in captions per picture."""
    most = max(each.shape[1] for each in sentences)
    return torch.cat([F.pad(each, (0, 0, 0, most - each.shape[1])) for each in sentences])


@dataclass(frozen=True, kw_only=True)
class Contrastive(Objective):
    """Losses that are means over pictures, not tokens."""

    writer: Writer | None = None
    """Writes what the heads judge, if a loss needs it."""

    @property
    def prepares(self) -> bool:
        return self.writer is not None

    def prepare(self, model: VisionPrefixLM, batch: Batch) -> Batch:
        """The same examples, with captions by the model itself."""
        return self.writer(model, batch) if self.writer else batch

    def size(self, batch: Batch) -> int:
        """The number of pictures."""
        return sum(len(examples.captions) for examples in batch if examples.pictured)
