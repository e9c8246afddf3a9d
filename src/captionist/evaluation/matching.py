"""CLIPScore and RefCLIPScore (Hessel et al. 2021): whether captions fit their pictures, judged by a model, not by
words.

The paper's model is a CLIP (`clip.Clip`). Without one, a bundle's own alignment stands in: the formulas are the same,
but its cosines are of another size, and it may be judging captions that it has chosen itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from captionist.captioner import Captioner
from captionist.data import Example
from captionist.data.filters import clean_caption
from captionist.evaluation.bootstrap import FloatArray
from captionist.evaluation.retrieval import Recall, recall
from captionist.evaluation.scores import Scores, mean_measure
from captionist.images import ImageFile

Floats = NDArray[np.float32]
_Item = TypeVar("_Item")

_WEIGHT = 2.5  # the paper's: it stretches CLIP's cosines to about 0 to 1
_BATCH = 16


class Judge(Protocol):
    """Places pictures and sentences in one space, as unit vectors, whose products are cosines.

    clip: the name of the CLIP that it is; empty if it is none.
    """

    clip: str

    def images(self, pictures: Sequence[ImageFile]) -> Floats:
        """Picture files -> float32 [B, E]. Raises ImageError."""
        ...

    def sentences(self, texts: Sequence[str]) -> Floats:
        """Sentences -> float32 [B, E]."""
        ...


class OwnAlignment:
    """The alignment of the model that is evaluated."""

    clip = ""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner

    def images(self, pictures: Sequence[ImageFile]) -> Floats:
        """See `Judge`."""
        prepared = [self._captioner.prepare(picture) for picture in pictures]
        return self._captioner.image_embeddings(self._captioner.encode(prepared))

    def sentences(self, texts: Sequence[str]) -> Floats:
        """See `Judge`; sentences are cleaned as they were for training."""
        lowercase = self._captioner.bundle.config.lowercase
        return self._captioner.sentence_embeddings([clean_caption(text, lowercase) for text in texts])


@dataclass(frozen=True)
class Embedded:
    """N pictures, a candidate for each, and all S references, as unit vectors: float32 [N, E], [N, E], [S, E].

    owners: int64 [S], each reference's picture. clip: the name of the CLIP that made them; empty if none did.
    """

    clip: str
    images: Floats
    candidates: Floats
    references: Floats
    owners: NDArray[np.int64]

    def recall(self) -> Recall:
        """How well the references and the pictures find each other."""
        return Recall(len(self.images), len(self.references), recall(self.images, self.references, self.owners))


def embed(
    judge: Judge, examples: Sequence[Example], candidates: Mapping[str, str], advance: Callable[[], None]
) -> Embedded:
    """Embed every example and its candidate, given by id, with the judge; advance: called after each picture."""
    images = []
    for batch in _batches(example.image for example in examples):
        images.append(judge.images(batch))
        for _ in batch:
            advance()

    def sentences(texts: Iterable[str]) -> Floats:
        return np.concatenate([judge.sentences(batch) for batch in _batches(texts)])

    return Embedded(
        clip=judge.clip,
        images=np.concatenate(images),
        candidates=sentences(candidates[example.id] for example in examples),
        references=sentences(reference for example in examples for reference in example.references),
        owners=np.repeat(np.arange(len(examples)), [len(example.references) for example in examples]),
    )


def clip_scores(embedded: Embedded) -> tuple[FloatArray, FloatArray]:
    """CLIPScore and RefCLIPScore of every candidate, float64 [N] each, the former from 0 to 2.5.

    CLIPScore is 2.5 max(cos(image, candidate), 0). RefCLIPScore is the harmonic mean of that and the candidate's
    largest cosine with a reference, at least 0.
    """
    candidates, owners = embedded.candidates.astype(np.float64), embedded.owners
    score = _WEIGHT * np.maximum((embedded.images * candidates).sum(1), 0)
    nearest = np.zeros(len(score))
    np.maximum.at(nearest, owners, (embedded.references * candidates[owners]).sum(1))
    total = score + nearest
    return score, 2 * score * nearest / np.where(total > 0, total, 1)


def add_clip_scores(scores: Scores, embedded: Embedded, match_weight: float) -> Scores:
    """Return the scores with CLIPScore and RefCLIPScore, and a note on who judged.

    match_weight: the weight with which the model's own alignment ranked the captions.
    """
    note = f"CLIPScore and RefCLIPScore by {embedded.clip}."
    if not embedded.clip:
        note = "match score: from the model's own alignment, not comparable with published CLIPScores."
        if match_weight:
            note += f" It also ranked these captions (match_weight {match_weight:g}), so it judges its own choice."
    score, with_references = map(mean_measure, clip_scores(embedded))
    return scores.model_copy(
        update={
            "clip_score": score,
            "ref_clip_score": with_references,
            "clip": embedded.clip,
            "notes": [*scores.notes, note],
        }
    )


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
