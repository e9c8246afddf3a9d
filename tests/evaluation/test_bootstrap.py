import numpy as np
import pytest

from captionist.evaluation.bleu import bleu, bleu_of_sums, bleu_statistics
from captionist.evaluation.bootstrap import interval, resampled_sums
from tests.evaluation.samples import random_corpus


def test_a_resample_scores_as_its_pictures_do() -> None:
    references, candidates = random_corpus(20)
    statistics = bleu_statistics(references, candidates)
    drawn = np.random.default_rng(0).integers(20, size=20)  # what the first of the resamples with seed 0 draws

    (sums,) = resampled_sums(statistics, resamples=1, seed=0)

    expected = bleu([references[i] for i in drawn], [candidates[i] for i in drawn])
    np.testing.assert_allclose(bleu_of_sums(sums), expected, rtol=1e-12)


def test_the_interval_holds_the_value_and_narrows_with_more_pictures() -> None:
    widths = []
    for pictures in (50, 800):
        references, candidates = random_corpus(pictures)
        samples = bleu_of_sums(resampled_sums(bleu_statistics(references, candidates)))[:, 1]
        low, high = interval(samples)
        assert low < bleu(references, candidates)[1] < high
        widths.append(high - low)

    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.5)  # 16 times the pictures, a quarter of the width


def test_the_interval_of_a_mean_is_two_standard_errors_each_way() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=(400, 1))

    low, high = interval(resampled_sums(values)[:, 0] / len(values))

    standard_error = values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], values.mean() + np.array([-1.96, 1.96]) * standard_error, atol=0.03)


def test_the_same_seed_gives_the_same_resamples() -> None:
    values = np.arange(12.0).reshape(6, 2)

    np.testing.assert_array_equal(resampled_sums(values, 5, seed=3), resampled_sums(values, 5, seed=3))
    assert not np.array_equal(resampled_sums(values, 5, seed=3), resampled_sums(values, 5, seed=4))
