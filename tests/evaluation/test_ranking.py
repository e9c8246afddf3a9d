"""Rankers learn what candidates are worth."""

import numpy as np
import pytest

from captionist.evaluation.ranking import Contest, Setting, choose, fit_ranker
from captionist.inference.candidates import FEATURES, Candidates
from captionist.inference.hypotheses import Hypothesis

NOTHING = Hypothesis((), 0.0, 0.0, np.zeros((0, 1), np.float32))


def contest(number: int, corpus: str, *, by_agreement: bool, size: int = 6) -> Contest:
    """Random candidates, the first two of them written; one of the two features decides what they are worth."""
    drawn = np.random.default_rng(number)
    cosine, agreement, support = drawn.random((3, size)).astype(np.float32)
    candidates = Candidates(
        captions=[NOTHING] * size,
        texts=["a dog"] * size,
        written=np.arange(size) < 2,
        cosine=cosine,
        support=support,
        agreement=agreement,
    )
    return Contest(f"{number}.jpg", corpus, candidates, 100 * (agreement if by_agreement else cosine))


@pytest.mark.parametrize("setting", [Setting(), Setting(hidden=0, nets=1, steps=200)])
@pytest.mark.parametrize("by_agreement", [True, False])
def test_a_ranker_finds_what_candidates_are_worth(setting: Setting, by_agreement: bool) -> None:
    ranker = fit_ranker([contest(n, "a", by_agreement=by_agreement) for n in range(150)], FEATURES, setting)
    others = [contest(n, "a", by_agreement=by_agreement) for n in range(1000, 1100)]
    lost = [other.values.max() - other.values[choose(ranker, other)] for other in others]
    assert np.mean(lost) < 5
    assert np.mean([other.values.max() - other.values[0] for other in others]) > 20


def test_nets_are_averaged_into_one() -> None:
    contests = [contest(n, "a", by_agreement=True) for n in range(40)]
    one, two = (fit_ranker(contests, FEATURES, Setting(nets=nets, steps=10)) for nets in (1, 2))
    assert two.bias.shape == (16,)
    np.testing.assert_array_equal(one.hidden, two.hidden[:, :8])
    np.testing.assert_allclose(one.out / 2, two.out[:8])


def test_contests_of_different_size_do_not_disturb_each_other() -> None:
    contests = [contest(n, "a", by_agreement=True, size=3 + n % 5) for n in range(150)]
    ranker = fit_ranker(contests, FEATURES, Setting())
    lost = [each.values.max() - each.values[choose(ranker, each)] for each in contests]
    assert np.mean(lost) < 5


def test_a_small_corpus_has_more_than_its_share() -> None:
    """Two corpora with opposite laws: of equal size, neither wins; a few pictures count more than their share."""
    few = [contest(n, "few", by_agreement=True) for n in range(20)]
    many = [contest(n, "many", by_agreement=False) for n in range(100, 180)]
    apart = fit_ranker([*few, *many], FEATURES, Setting())
    together = fit_ranker(
        [*(Contest(c.picture, "many", c.candidates, c.values) for c in few), *many], FEATURES, Setting()
    )

    def worth(ranker: object) -> float:
        return float(np.mean([each.values[choose(ranker, each)] for each in few]))  # type: ignore[arg-type]

    assert worth(apart) > worth(together)
