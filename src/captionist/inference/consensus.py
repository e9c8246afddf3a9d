"""How far sentences agree with each other, by the raw counts of their words and word pairs.

The candidate that most others resemble is the safest (Devlin et al. 2015, "Exploring Nearest Neighbor Approaches for
Image Captioning"). Counts weighted by rarity, as in CIDEr, chose worse.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from captionist.inference.class_words import words_of

Floats = NDArray[np.float32]


def consensus(texts: Sequence[str], weights: Floats) -> Floats:
    """The mean cosine of each of N texts with all of them, float32 [N]. weights: float32 [N], adding up to 1."""
    columns: dict[tuple[str, ...], int] = {}
    rows = []
    for text in texts:
        words = words_of(text)
        rows.append([columns.setdefault(gram, len(columns)) for gram in (*zip(words), *pairwise(words))])
    counts = np.zeros((len(texts), len(columns)), np.float32)
    for row, grams in zip(counts, rows, strict=True):
        np.add.at(row, grams, 1)
    counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)
    agreement: Floats = counts @ (weights @ counts)
    return agreement
