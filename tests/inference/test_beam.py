"""How a beam search finds the best continuations of a vocabulary too large to sort."""

import numpy as np
import pytest

from captionist.inference.beam import _best


@pytest.mark.parametrize("vocabulary", [3, 64, 100, 1000])
@pytest.mark.parametrize("allowed", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("alike", [False, True], ids=["all differ", "many ties"])
def test_the_best_are_those_that_sorting_everything_finds(vocabulary: int, allowed: float, alike: bool) -> None:
    generator = np.random.default_rng([vocabulary, round(100 * allowed), alike])
    for rows in (1, 2, 12):
        ranked = generator.normal(-9, 3, (rows, vocabulary)).astype(np.float32)
        so_far = generator.normal(-20, 2, rows)
        if alike:
            ranked, so_far = ranked.round(), so_far.round()
        ranked[generator.random(ranked.shape) > allowed] = -np.inf
        totals = so_far[:, None] + ranked
        expected = sorted(zip(*np.nonzero(np.isfinite(totals)), strict=True), key=lambda place: (-totals[place], place))
        for count in (1, 2, 24):
            row, token, total = _best(ranked, so_far, count)
            assert list(zip(row, token, strict=True)) == expected[:count]
            np.testing.assert_array_equal(total, totals[row, token])
