"""Keeps what scores a model out of what it learns from.

Corpora overlap: Flickr30k holds nearly all of Flickr8k's dev and test pictures, with the same captions. A training
picture is left out if it looks like an evaluation picture, or shares at least SHARED_CAPTIONS captions with one; a line
of text alone is left out if it is the caption of any evaluation picture.

The figures are from `python -m benchmarks.leakage FLICKR8K`, on the official split: 6,000 train and 1,000 dev pictures
of 224 pixels a side, captions compared as `clean_caption` writes them, in lower case.

- Pictures: of the six million pairs of a train and a dev picture none is within 5 bits, and the two nearest are at 6,
    so MAX_DISTANCE, which was chosen by these very pairs, leaves out none of the 6,000. A larger corpus may lose a few
    pictures that are no copies, which costs little; a copy that is missed costs more. Of copies of 500 dev pictures it
    finds all that were made grey, saved again as JPEG of quality 90 or resized to 500 x 333 or 1000 x 800; 99.8 % of
    those of quality 50, of 333 x 500 and of a quarter of the area; 97.4 % of those of quality 20; 73 % of those that
    lost 2 % at each edge; and none that was mirrored.
- Captions: 58 of the 6,000 train pictures share one caption with a dev picture, such as "a dog runs through the grass",
    written by people who saw different dogs; none shares two. So one shared caption is no sign that two pictures are
    the same, and two are. For text alone, the caption is all there is to compare. Were the train captions such text, 61
    of 30,000 would go, a small price.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captionist import images
from captionist.data.filters import clean_caption
from captionist.data.records import Corpus, Example
from captionist.errors import DataError

EVALUATION_SPLITS = ("dev", "test")
MAX_DISTANCE = 5
"""Pictures whose hashes differ in at most this many of their 64 bits count as the same."""
SHARED_CAPTIONS = 2
"""Pictures with this many captions in common count as the same."""

_ENOUGH = 128  # pixels a side to decode; a hash needs nine, but a picture of another size must give the same one
_ROWS = 256  # of distances at a time: 20 MB against 10,000 evaluation pictures


@dataclass(frozen=True, slots=True)
class LeakCheck:
    """The training examples that were kept, and those left out."""

    kept: tuple[Example, ...]
    by_picture: tuple[tuple[Example, Example], ...]
    """Pairs of a training picture and the evaluation picture that it looks like."""
    by_captions: tuple[tuple[Example, Example], ...]
    """Pairs of a training picture that looks different and the evaluation picture whose captions it has."""

    def __str__(self) -> str:
        pairs = self.by_picture + self.by_captions
        total = len(self.kept) + len(pairs)
        if not pairs:
            return f"none of {total:,} train pictures is an evaluation picture"
        train, evaluation = pairs[0]
        return (
            f"left out {len(pairs):,} of {total:,} train pictures that are evaluation pictures: "
            f"{len(self.by_picture):,} by their looks, {len(self.by_captions):,} by their captions; "
            f"the first: {train.image} is {evaluation.image}"
        )


def evaluation_examples(corpus: Corpus) -> tuple[Example, ...]:
    """The examples of a corpus that score a model: those of dev and test.

    Raises:
        DataError: there are none.
    """
    chosen = tuple(example for example in corpus.examples if example.split in EVALUATION_SPLITS)
    if not chosen:
        raise DataError(
            f"{corpus.root}: no dev or test pictures, so there is nothing to keep out of training. "
            "Take it out of data.exclude, or name its splits in split files."
        )
    return chosen


def difference_hash(picture: images.ImageFile) -> int:
    """64 bits of how a picture looks: where it gets brighter from left to right, on 8 rows of 9 grey cells.

    Scaling, squeezing, saving again and removing colour change few of them. The method is Krawetz's dHash (2013).

    Raises:
        ImageError: the picture cannot be read.
    """
    grey = cv2.cvtColor(images.decode(picture, at_least=_ENOUGH), cv2.COLOR_RGB2GRAY)
    cells = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), np.uint8)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def leave_out(
    train: Sequence[Example],
    evaluation: Sequence[Example],
    train_hashes: NDArray[np.uint64],
    evaluation_hashes: NDArray[np.uint64],
) -> LeakCheck:
    """Leave out what is also in `evaluation`; the hashes, uint64 [N] and [M], are `difference_hash` of each.

    There may be fewer hashes than evaluation pictures: those after the first M are compared by their captions alone.
    """
    looks_like = _nearest(train_hashes, evaluation_hashes)
    says_the_same = _same_captions(train, evaluation)
    kept, by_picture, by_captions = [], [], []
    for example, looks, says in zip(train, looks_like, says_the_same, strict=True):
        if looks is not None:
            by_picture.append((example, evaluation[looks]))
        elif says is not None:
            by_captions.append((example, evaluation[says]))
        else:
            kept.append(example)
    return LeakCheck(tuple(kept), tuple(by_picture), tuple(by_captions))


def leave_out_lines(lines: Iterable[str], evaluation: Iterable[Example]) -> list[str]:
    """The lines of text that are not captions of evaluation pictures, unchanged."""
    held_out = {text for example in evaluation for text in _captions(example)}
    return [line for line in lines if clean_caption(line, lowercase=True) not in held_out]


def _captions(example: Example) -> set[str]:
    return {clean_caption(text, lowercase=True) for text in example.references}


def _nearest(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> list[int | None]:
    """For each hash, the index of the nearest of the others, if it is near enough."""
    if not len(others):
        return [None] * len(hashes)
    found: list[int | None] = []
    for start in range(0, len(hashes), _ROWS):
        distances = np.bitwise_count(hashes[start : start + _ROWS, None] ^ others[None])
        nearest = distances.argmin(axis=1)
        near = distances.min(axis=1) <= MAX_DISTANCE
        found += [int(index) if is_near else None for index, is_near in zip(nearest, near, strict=True)]
    return found


def _same_captions(train: Sequence[Example], evaluation: Sequence[Example]) -> list[int | None]:
    """For each training example, the index of an evaluation example that shares enough captions."""
    written_of: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(evaluation):
        for text in _captions(example):
            written_of[text].append(index)
    found: list[int | None] = []
    for example in train:
        shared: dict[int, int] = defaultdict(int)
        for text in _captions(example):
            for index in written_of.get(text, ()):
                shared[index] += 1
        found.append(next((index for index, count in shared.items() if count >= SHARED_CAPTIONS), None))
    return found
