"""95 % intervals by resampling pictures (Efron 1979; for BLEU: Koehn 2004, "Statistical significance tests").

A corpus score is a function of sums over its pictures, so a resample costs one sum: the pictures' sufficient statistics
are computed once. CIDEr's document frequencies stay those of the full corpus; a resample averages the pictures' scores,
as for ROUGE-L.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RESAMPLES = 1000
_LEVEL = 95.0


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
