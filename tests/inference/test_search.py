"""Beam search against full enumeration, batching, and the shape of what comes back."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from captionist.errors import CaptionistError
from captionist.inference.search import Hypothesis, Sampling, SearchOptions, Step, search
from captionist.options import MOST_ROWS
from tests.inference.toy import EOS, Histories, ToyDecoder, pictures

EVERYTHING = 400  # more beams than the toy has captions


def ranked_exactly(toy: ToyDecoder, picture: int, length_penalty: float, min_tokens: int = 0) -> list[tuple[int, ...]]:
    """All captions of the toy, best first, by enumeration."""

    def score(tokens: tuple[int, ...]) -> float:
        return float(toy.log_probability(picture, tokens) / (len(tokens) + 1) ** length_penalty)

    return sorted(toy.captions(min_tokens), key=score, reverse=True)


def same(one: Hypothesis, other: Hypothesis) -> bool:
    return (one.tokens, one.log_probability, one.score) == (
        other.tokens,
        other.log_probability,
        other.score,
    ) and np.array_equal(one.attention, other.attention)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, -0.5])
@pytest.mark.parametrize("picture", range(5))
def test_a_beam_of_full_width_ranks_every_caption_as_enumeration_does(picture: int, length_penalty: float) -> None:
    toy = ToyDecoder()
    options = SearchOptions(
        num_beams=EVERYTHING, num_captions=EVERYTHING, min_tokens=0, length_penalty=length_penalty, max_tokens=9
    )
    [found] = search(toy, pictures(picture), 1, options)
    assert [hypothesis.tokens for hypothesis in found] == ranked_exactly(toy, picture, length_penalty)


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0, 2.0, -0.5])
def test_a_beam_stops_where_a_sure_end_would_not_get_in(length_penalty: float) -> None:
    """With one word to write, there is one caption of each length, so that the rule can be worked out by hand."""
    options = SearchOptions(num_beams=3, num_captions=3, min_tokens=0, length_penalty=length_penalty)
    steps = []
    for picture in range(30):
        toy = ToyDecoder(vocabulary=2, max_tokens=12)
        every, best = list(toy.captions()), list[tuple[int, ...]]()
        ranked = ranked_exactly(toy, picture, length_penalty)
        for tokens in every:
            begun = sum(float(toy.log_probs(picture, tokens[:place])[token]) for place, token in enumerate(tokens))
            scores = [toy.log_probability(picture, other) / (len(other) + 1) ** length_penalty for other in best]
            if len(best) == 3 and begun / (len(tokens) + 1) ** length_penalty <= min(scores):
                break
            best = sorted([*best, tokens], key=ranked.index)[:3]
        [found] = search(toy, pictures(picture), 1, options)
        assert [hypothesis.tokens for hypothesis in found] == best
        steps.append(toy.rows_stepped)
    assert min(steps) < 12


def test_a_wider_beam_finds_what_greedy_search_misses() -> None:
    toy = ToyDecoder(vocabulary=6)
    greedy = [search(toy, pictures(p), 1, SearchOptions(num_beams=1, length_penalty=0.0))[0][0] for p in range(30)]
    wide = [search(toy, pictures(p), 1, SearchOptions(num_beams=8, length_penalty=0.0))[0][0] for p in range(30)]
    assert all(w.log_probability >= g.log_probability for g, w in zip(greedy, wide, strict=True))
    assert sum(w.log_probability > g.log_probability for g, w in zip(greedy, wide, strict=True)) >= 5


def test_one_beam_is_greedy() -> None:
    toy = ToyDecoder(vocabulary=6, max_tokens=8)
    for picture in range(30):
        tokens: tuple[int, ...] = ()
        while len(tokens) < toy.max_tokens and (best := int(toy.logits(picture, tokens).argmax())) != EOS:
            tokens = (*tokens, best)
        [[found]] = search(toy, pictures(picture), 1, SearchOptions(num_beams=1, min_tokens=0))
        assert found.tokens == tokens


@pytest.mark.parametrize("num_beams", [1, 3])
def test_log_probability_and_attention_belong_to_the_tokens(num_beams: int) -> None:
    """Both are computed again from the tokens alone, so that a beam that lost its ancestry shows."""
    toy = ToyDecoder(vocabulary=7, max_tokens=8)
    options = SearchOptions(num_beams=num_beams, num_captions=num_beams, repetition_penalty=1.3, length_penalty=0.8)
    numbers = range(12)
    for picture, found in zip(numbers, search(toy, pictures(*numbers), 12, options), strict=True):
        assert len(found) == num_beams
        for hypothesis in found:
            expected = toy.log_probability(picture, hypothesis.tokens)
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-5)
            assert hypothesis.attention.shape == (len(hypothesis.tokens), toy.prefix)
            for place, row in enumerate(hypothesis.attention):
                np.testing.assert_array_equal(row, toy.attention(picture, hypothesis.tokens[:place]))


@pytest.mark.parametrize("num_beams", [1, 2, 5])
def test_a_batch_gives_what_each_picture_gives_alone(num_beams: int) -> None:
    options = SearchOptions(num_beams=num_beams, num_captions=num_beams, length_penalty=0.6, no_repeat_ngram=2)
    together = search(ToyDecoder(vocabulary=6, max_tokens=7), pictures(*range(15)), 15, options)
    for picture, found in enumerate(together):
        [alone] = search(ToyDecoder(vocabulary=6, max_tokens=7), pictures(picture), 1, options)
        assert len(found) == len(alone)
        assert all(same(one, other) for one, other in zip(found, alone, strict=True))


def test_finished_pictures_leave_the_batch() -> None:
    """The batch steps exactly the rows that the pictures step alone, though they finish at different lengths."""
    options = SearchOptions(num_beams=3, length_penalty=0.0)
    alone = []
    for picture in range(15):
        toy = ToyDecoder(vocabulary=6, max_tokens=12)
        search(toy, pictures(picture), 1, options)
        alone.append(toy.rows_stepped)
    together = ToyDecoder(vocabulary=6, max_tokens=12)
    search(together, pictures(*range(15)), 15, options)
    assert len(set(alone)) > 3
    assert together.rows_stepped == sum(alone)


def test_the_shorter_of_the_two_length_limits_holds() -> None:
    """A caption at the limit is ended, with the model's probability of that end."""
    toy = ToyDecoder(vocabulary=5, max_tokens=3)
    for limit, longest in ((2, 2), (50, 3)):
        options = SearchOptions(num_beams=4, num_captions=4, max_tokens=limit, length_penalty=2.0)
        lengths = [len(h.tokens) for found in search(toy, pictures(*range(20)), 20, options) for h in found]
        assert max(lengths) == longest


def test_no_pictures_no_captions() -> None:
    assert search(ToyDecoder(), pictures(), 0, SearchOptions()) == []


def test_scores_that_are_not_numbers_are_an_error() -> None:
    class Broken(ToyDecoder):
        def _look(self, state: Histories) -> Step:
            step = super()._look(state)
            return Step(step.log_probs * np.float32(np.nan), step.attention, step.state)

    with pytest.raises(CaptionistError, match="model verify"):
        search(Broken(), pictures(0), 1, SearchOptions())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"num_captions": 0}, "num_captions"),
        ({"num_captions": 4}, "at most num_beams"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 31}, "min_tokens"),
        ({"max_words": 0}, "max_words"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchOptions(**changes)  # type: ignore[arg-type]


def test_more_captions_than_beams_raise_the_beams_unless_they_are_given() -> None:
    assert SearchOptions().override(num_captions=5).num_beams == 5
    assert SearchOptions().override(num_captions=2).num_beams == 3
    with pytest.raises(ValueError, match="at most num_beams"):
        SearchOptions().override(num_captions=5, num_beams=4)


def test_a_picture_takes_as_many_rows_as_its_beams_or_the_sentences_that_compete() -> None:
    assert SearchOptions(num_beams=8).fitting(100) == MOST_ROWS // 8
    assert SearchOptions(num_beams=8, retrieved=32).fitting(100) == MOST_ROWS // 32
    assert SearchOptions(num_beams=8, retrieved=4).fitting(3) == 3
    assert SearchOptions(num_beams=1000).fitting(8) == 1
    assert SearchOptions(num_beams=2, retrieved=32, num_captions=16, sample=Sampling()).fitting(100) == MOST_ROWS // 16


def test_captions_that_fit_the_picture_better_come_first() -> None:
    """Similarity here is how many tokens are 1: with weight it turns the order, without it changes nothing."""

    def similarity(found: list[Sequence[Hypothesis]]) -> list[NDArray[np.float32]]:
        return [np.array([h.tokens.count(1) for h in each], np.float32) for each in found]

    for sampling in (None, Sampling(seed=3)):
        options = SearchOptions(num_beams=6, num_captions=6, sample=sampling)
        plain = search(ToyDecoder(), pictures(0, 1, 2), 3, options)
        ranked = search(
            ToyDecoder(), pictures(0, 1, 2), 3, options.override(match_weight=1000.0), similarity=similarity
        )
        for before, after in zip(plain, ranked, strict=True):
            assert sorted(h.tokens for h in before) == sorted(h.tokens for h in after)
            ones = [h.tokens.count(1) for h in after]
            assert ones == sorted(ones, reverse=True)
            assert ones[0] > ones[-1]
        unchanged = search(ToyDecoder(), pictures(0, 1, 2), 3, options, similarity=similarity)
        assert all(same(a, b) for x, y in zip(plain, unchanged, strict=True) for a, b in zip(x, y, strict=True))


def test_the_best_fitting_of_all_beams_is_returned() -> None:
    def similarity(found: list[Sequence[Hypothesis]]) -> list[NDArray[np.float32]]:
        return [np.arange(len(each), dtype=np.float32) for each in found]

    options = SearchOptions(num_beams=5)
    beams = search(ToyDecoder(), pictures(0), 1, options.override(num_captions=5))[0]
    [[best]] = search(ToyDecoder(), pictures(0), 1, options.override(match_weight=100.0), similarity=similarity)
    assert best.tokens == beams[-1].tokens


def test_ranking_by_similarity_needs_a_model_that_knows_it() -> None:
    with pytest.raises(ValueError, match="match_weight needs a model"):
        search(ToyDecoder(), pictures(0), 1, SearchOptions(match_weight=1.0))


def test_greedy_search_has_nothing_to_rank() -> None:
    def similarity(found: list[Sequence[Hypothesis]]) -> list[NDArray[np.float32]]:
        raise AssertionError(found)

    options = SearchOptions(num_beams=1)
    [[plain]] = search(ToyDecoder(), pictures(0), 1, options)
    [[found]] = search(ToyDecoder(), pictures(0), 1, options.override(match_weight=9.0), similarity=similarity)
    assert same(found, plain)
