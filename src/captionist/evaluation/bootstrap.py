"""95 % intervals by resampling pictures (Efron 1979; for BLEU: Koehn 2004, "Statistical significance tests").

A score of a corpus is a function of sums over its pictures, so a resample costs one sum: the pictures' sufficient
statistics are computed once. CIDEr's document frequencies are held at those of the full corpus; a resample averages
the pictures' scores, as it does for ROUGE-L.
"""

from collections.abc import Sequence

import numpy as np
from nltk.translate.bleu_score import closest_ref_length, modified_precision
from numpy.typing import NDArray

from captionist.evaluation.words import Words, require_words

FloatArray = NDArray[np.float64]

RESAMPLES = 1000
_LEVEL = 95.0
_ORDERS = 4


def resampled_sums(statistics: FloatArray, resamples: int = RESAMPLES, seed: int = 0) -> FloatArray:
    """Return the sums of `statistics` [N, K] over N pictures drawn with replacement, `resamples` times, [R, K].

    The same `seed` and N always draw the same pictures.
    """
    pictures = len(statistics)
    generator = np.random.default_rng(seed)
    sums = np.empty((resamples, statistics.shape[1]))
    for row in sums:
        times_drawn = np.bincount(generator.integers(pictures, size=pictures), minlength=pictures)
        row[:] = times_drawn @ statistics
    return sums


def interval(values: FloatArray) -> tuple[float, float]:
    """Return the bounds of the middle 95 % of `values` [R]."""
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def bleu_statistics(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> FloatArray:
    """Return what corpus BLEU needs to know of every picture, [N, 10].

    Columns: n-grams of the candidate found in the references (clipped) for n = 1..4, its n-grams for n = 1..4 (nltk
    counts at least one), its length, the closest reference's length. Shapes and errors are those of `bleu.bleu`.
    """
    require_words(references, candidates)
    rows = []
    for group, candidate in zip(references, candidates, strict=True):
        precisions = [modified_precision(group, candidate, order) for order in range(1, _ORDERS + 1)]
        rows.append(
            [precision.numerator for precision in precisions]
            + [precision.denominator for precision in precisions]
            + [len(candidate), closest_ref_length(group, len(candidate))]
        )
    return np.array(rows, dtype=np.float64)


def bleu_of_sums(sums: FloatArray) -> FloatArray:
    """Return BLEU-1 to BLEU-4, [..., 4], from 0 to 1, of sums [..., 10] of `bleu_statistics`; nltk's corpus BLEU."""
    found, counted = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    candidate_length, reference_length = sums[..., -2:-1], sums[..., -1:]
    with np.errstate(divide="ignore"):  # the logarithm of a precision of 0 is -inf, and the score 0 as it should be
        mean_log_precision = np.cumsum(np.log(found / counted), axis=-1) / np.arange(1, _ORDERS + 1)
    shortfall = 1 - reference_length / np.maximum(candidate_length, 1)
    return np.exp(np.minimum(shortfall, 0) + mean_log_precision)
