"""BLEU by nltk, on words."""

import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from nltk.translate.bleu_score import corpus_bleu

from captionist.evaluation.words import Words, require_words

WEIGHTS = [(1.0,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4]
"""Of n-grams, for BLEU-1 to BLEU-4."""


def bleu(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> tuple[float, float, float, float]:
    """Return corpus BLEU-1 to BLEU-4, from 0 to 1, unsmoothed (Papineni et al. 2002), by nltk's corpus_bleu.

    `references` [N] holds the references of every picture, `candidates` [N] one candidate each, all as lists of words.
    Where no n-gram of some order matches, BLEU of that order and above is 0.

    Raises TypeError if a string takes the place of a list of words (its characters would be scored), ScoreError if
    there is nothing to score, the lengths differ, or a candidate has no reference.
    """
    require_words(references, candidates)
    values = corpus_bleu(references, candidates, weights=WEIGHTS, smoothing_function=unsmoothed)
    # A precision of zero stands as the least float, whose fourth root is about 1e-77: no real BLEU is near it.
    first, second, third, fourth = (float(value) if value > 1e-60 else 0.0 for value in values)
    return first, second, third, fourth


def unsmoothed(precisions: Sequence[Fraction], **_: Any) -> list[Fraction | float]:
    """Do what nltk's "no smoothing" does, without its warning: a precision of zero is an honest result."""
    return [precision if precision.numerator else sys.float_info.min for precision in precisions]
