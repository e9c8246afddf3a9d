"""Captions without pictures that seem to describe the same picture, found among their neighbours in a file.

In COCO, captions of the same picture are near each other, but nothing marks them. Comparing words alone finds only half
of the pairs that a sentence encoder finds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captionist.evaluation.cider import CiderD
from captionist.evaluation.tokenize import tokenize

_LIKE = 0.53  # the cosine from which two sentences may be about the same picture
_MEAN = 0.5  # the least mean cosine at which two groups are joined
_LEAST, _MOST, _ALONE = 0.4, 1.4, 0.7  # weights
_AGREED = 1.5  # the CIDEr-D, from 0 to 10, that adds 1 to a caption's weight
_TOGETHER = 1000


def find_groups(vectors: NDArray[np.floating], near: int, most: int) -> list[list[int]]:
    """Similar lines, at most `near` apart, in groups of at most `most`, formed from the most similar pairs first.

    vectors: float [N, W], unit vectors of the lines. Returns the numbers of each group's lines; each line is in one.
    """
    owner = list(range(len(vectors)))
    members = {line: [line] for line in owner}
    for first, second in _pairs(vectors.astype(np.float32), near):
        one, other = owner[first], owner[second]
        if one == other or len(members[one]) + len(members[other]) > most:
            continue
        if float((vectors[members[one]].astype(np.float32) @ vectors[members[other]].T).mean()) < _MEAN:
            continue
        for line in members[other]:
            owner[line] = one
        members[one] += members.pop(other)
    return [sorted(group) for group in members.values()]


def _pairs(vectors: NDArray[np.float32], near: int) -> list[tuple[int, int]]:
    """Pairs of similar lines, the most similar first."""
    found: list[tuple[float, int, int]] = []
    for start in range(0, len(vectors), _TOGETHER):
        cosines = vectors[start : start + _TOGETHER] @ vectors[start : start + _TOGETHER + near].T
        rows, columns = np.nonzero(cosines > _LIKE)
        here = (columns > rows) & (columns <= rows + near)
        found += [
            (-float(cosines[r, c]), start + int(r), start + int(c))
            for r, c in zip(rows[here], columns[here], strict=True)
        ]
    return [(first, second) for _, first, second in sorted(found)]


def agreement(groups: Sequence[Sequence[str]]) -> list[list[float]]:
    """How much each caption of each group should count: the more it agrees with the others, the more it counts."""
    words = [[tokenize(text) for text in group] for group in groups]
    cider = CiderD(words)
    return [
        [_weight(cider, group[:place] + group[place + 1 :], caption) for place, caption in enumerate(group)]
        for group in words
    ]


def _weight(cider: CiderD, others: list[list[str]], caption: list[str]) -> float:
    if not others:
        return _ALONE
    return min(_LEAST + float(cider.score([caption], [others])[0]) / _AGREED, _MOST)
