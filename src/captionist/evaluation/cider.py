"""CIDEr-D with document frequencies that stay fixed: for scores, for validation, and as a reward."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captionist.errors import ScoreError
from captionist.evaluation.words import Words, require_words

Ngram = tuple[str, ...]

_ORDERS = 4
_SIGMA = 6.0


class _Vector(NamedTuple):
    """A sentence as CIDEr sees it: for each order, its tf-idf weights and their norm."""

    weights: list[dict[Ngram, float]]
    norms: list[float]
    bigrams: int


class CiderD:
    """CIDEr-D (Vedantam et al. 2015, section 6) as computed by pycocoevalcap, which calls it "Cider".

    The inverse document frequencies come from `references_corpus` [N]: for every picture its references, each a list of
    words. They are fixed here, so that `score` can be called for any few of the pictures, or for others. With the
    corpus's own references and one candidate for each picture, the scores are pycocoevalcap's (a test holds this to
    1e-9), including its measure of length, which is the number of bigrams.

    A corpus of one picture scores 0 throughout: every n-gram is in every document, so none carries weight.

    Raises TypeError for a string in place of a list of words, ScoreError if the corpus is empty.
    """

    def __init__(self, references_corpus: Sequence[Sequence[Words]]) -> None:
        if not references_corpus:
            raise ScoreError("CIDEr needs references to take its document frequencies from: the corpus is empty.")
        require_words(references_corpus, [[]] * len(references_corpus))
        frequencies = Counter(
            chain.from_iterable({ngram for words in group for ngram in _ngrams(words)} for group in references_corpus)
        )
        # An n-gram in no reference weighs as much as one in a single picture's references.
        self._unseen = math.log(len(references_corpus))
        self._idf = {ngram: self._unseen - math.log(count) for ngram, count in frequencies.items()}

    def score(self, candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> NDArray[np.float64]:
        """Return the score of every candidate [N] against its references [N], float64 [N], from 0 to 10.

        The usual "CIDEr of 53" is 100 times the mean of these. A candidate without words scores 0.

        Raises TypeError and ScoreError as `require_words` does.
        """
        require_words(references, candidates)
        return np.array(
            [self._score_one(candidate, group) for candidate, group in zip(candidates, references, strict=True)]
        )

    def _score_one(self, candidate: Words, references: Sequence[Words]) -> float:
        vector = self._vector(candidate)
        similarities = [_similarity(vector, self._vector(reference)) for reference in references]
        return 10 * math.fsum(similarities) / len(similarities)

    def _vector(self, words: Words) -> _Vector:
        weights: list[dict[Ngram, float]] = [{} for _ in range(_ORDERS)]
        for ngram, count in Counter(_ngrams(words)).items():
            weights[len(ngram) - 1][ngram] = count * self._idf.get(ngram, self._unseen)
        norms = [math.sqrt(sum(weight * weight for weight in order.values())) for order in weights]
        return _Vector(weights, norms, max(0, len(words) - 1))


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """Return the mean over the orders of the clipped cosine, damped by the difference in length."""
    total = 0.0
    for order in range(_ORDERS):
        norm = candidate.norms[order] * reference.norms[order]
        if norm == 0:
            continue
        other = reference.weights[order]
        shared = candidate.weights[order].keys() & other.keys()
        total += sum(min(candidate.weights[order][ngram], other[ngram]) * other[ngram] for ngram in shared) / norm
    difference = candidate.bigrams - reference.bigrams
    return total / _ORDERS * math.exp(-(difference**2) / (2 * _SIGMA**2))


def _ngrams(words: Words) -> list[Ngram]:
    return [
        tuple(words[start : start + order])
        for order in range(1, _ORDERS + 1)
        for start in range(len(words) - order + 1)
    ]
