"""Corpus BLEU on words (Papineni et al. 2002), unsmoothed: nltk's corpus_bleu, from sums over pictures."""

from collections.abc import Sequence

import numpy as np
from nltk.translate.bleu_score import closest_ref_length, modified_precision

from captionist.evaluation.bootstrap import FloatArray
from captionist.evaluation.words import Words, require_words

_ORDERS = 4


def bleu(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> tuple[float, float, float, float]:
    """Return corpus BLEU-1 to BLEU-4, from 0 to 1.

    `references` [N] holds the references of every picture, `candidates` [N] one candidate each, all as lists of words.
    If no n-gram of some order matches, BLEU of that order and above is 0. Raises as `require_words` does.
    """
    first, second, third, fourth = bleu_of_sums(bleu_statistics(references, candidates).sum(axis=0)).tolist()
    return first, second, third, fourth


def bleu_statistics(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> FloatArray:
    """Return the statistics of every picture that corpus BLEU needs, [N, 10].

    Columns: n-grams of the candidate found in the references (clipped) for n = 1..4, its n-grams for n = 1..4 (nltk
    counts at least one), its length, the closest reference's length. Shapes and errors are those of `bleu`.
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
    """Return BLEU-1 to BLEU-4, [..., 4], from 0 to 1, of sums [..., 10] of `bleu_statistics`."""
    found, counted = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    candidate_length, reference_length = sums[..., -2:-1], sums[..., -1:]
    with np.errstate(divide="ignore"):  # log(0) is -inf, which rightly gives a score of 0
        mean_log_precision = np.cumsum(np.log(found / counted), axis=-1) / np.arange(1, _ORDERS + 1)
    shortfall = 1 - reference_length / np.maximum(candidate_length, 1)
    return np.exp(np.minimum(shortfall, 0) + mean_log_precision)
