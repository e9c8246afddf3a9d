"""Repetition and length limits, checked on what a search returns."""

import numpy as np
import pytest

from captionist.inference.constraints import Constraints
from captionist.inference.search import Sampling, SearchOptions, search
from tests.inference.toy import ToyDecoder, pictures

WORD_START = np.array([False, True, False, True, False, False])  # of six tokens; 0 is the end of text


def repeats(tokens: tuple[int, ...], size: int) -> bool:
    runs = [tokens[start : start + size] for start in range(len(tokens) - size + 1)]
    return len(set(runs)) < len(runs)


def words(tokens: tuple[int, ...]) -> int:
    return sum(bool(WORD_START[token]) or place == 0 for place, token in enumerate(tokens))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_blocked_ngram_never_comes_twice(size: int) -> None:
    toy = ToyDecoder(vocabulary=3, max_tokens=12)
    free = SearchOptions(num_beams=4, num_captions=4, min_tokens=2, length_penalty=1.5)
    blocked = free.override(no_repeat_ngram=size)
    before = [h.tokens for found in search(toy, pictures(*range(10)), 10, free) for h in found]
    after = [h.tokens for found in search(toy, pictures(*range(10)), 10, blocked) for h in found]
    assert any(repeats(tokens, size) for tokens in before)
    assert after
    assert not any(repeats(tokens, size) for tokens in after)


def test_the_best_caption_without_a_repeated_bigram_is_found() -> None:
    toy = ToyDecoder(vocabulary=4, max_tokens=4)
    for picture in range(10):
        options = SearchOptions(num_beams=300, min_tokens=2, no_repeat_ngram=2, length_penalty=0.0)
        allowed = (tokens for tokens in toy.captions(min_tokens=2) if not repeats(tokens, 2))
        best = max(allowed, key=lambda tokens: toy.log_probability(picture, tokens))
        assert search(toy, pictures(picture), 1, options)[0][0].tokens == best


def test_a_caption_ends_where_everything_else_is_blocked() -> None:
    """Two words that may not repeat cannot fill ten tokens."""
    options = SearchOptions(num_beams=2, min_tokens=10, no_repeat_ngram=1)
    [[found]] = search(ToyDecoder(vocabulary=3, max_tokens=12), pictures(1), 1, options)
    assert sorted(found.tokens) == [1, 2]


@pytest.mark.parametrize("min_tokens", [0, 1, 3])
def test_captions_are_at_least_as_long_as_asked(min_tokens: int) -> None:
    toy = ToyDecoder(vocabulary=5, max_tokens=9)
    options = SearchOptions(num_beams=5, num_captions=5, min_tokens=min_tokens, length_penalty=0.0)
    lengths = [len(h.tokens) for found in search(toy, pictures(*range(20)), 20, options) for h in found]
    assert min(lengths) == min_tokens


@pytest.mark.parametrize("max_words", [1, 2, 3])
@pytest.mark.parametrize("sample", [None, Sampling(seed=1)])
def test_captions_hold_at_most_so_many_words(max_words: int, sample: Sampling | None) -> None:
    toy = ToyDecoder(vocabulary=6, max_tokens=10)
    options = SearchOptions(
        num_beams=5, num_captions=5, min_tokens=4, length_penalty=2.0, max_words=max_words, sample=sample
    )
    counts = [words(h.tokens) for found in search(toy, pictures(*range(20)), 20, options, WORD_START) for h in found]
    assert max(counts) == max_words


def test_the_word_limit_outranks_the_least_length() -> None:
    """A caption that may hold one word ends there, and is not stretched by its pieces."""
    toy = ToyDecoder(vocabulary=6, max_tokens=10)
    options = SearchOptions(num_beams=5, num_captions=5, min_tokens=6, max_words=1, length_penalty=0.0)
    lengths = [len(h.tokens) for found in search(toy, pictures(*range(9)), 9, options, WORD_START) for h in found]
    assert min(lengths) == 1


def test_the_best_caption_within_the_words_is_found() -> None:
    """By the model's own probability, among captions that it would end; no pieces are glued to a word that is whole."""
    toy = ToyDecoder(vocabulary=6, max_tokens=3)

    def shares(picture: int, tokens: tuple[int, ...]) -> tuple[float, float]:
        """Of the end, and of the end or another word."""
        weights = np.exp(toy.logits(picture, tokens).astype(np.float64))
        weights /= weights.sum()
        return float(weights[toy.eos_id]), float(weights[toy.eos_id] + weights[WORD_START].sum())

    def glued(picture: int, tokens: tuple[int, ...]) -> bool:
        starts = (tokens[:end] for end in range(1, len(tokens)))
        return any(words(start) == 2 and shares(picture, start)[1] > 0.5 for start in starts)

    def ranking(picture: int, tokens: tuple[int, ...]) -> tuple[bool, float]:
        end, closing = shares(picture, tokens)
        return words(tokens) < 2 or 2 * end >= closing, toy.log_probability(picture, tokens)

    cut = 0
    for picture in range(20):
        options = SearchOptions(num_beams=300, max_words=2, length_penalty=0.0)
        allowed = [tokens for tokens in toy.captions(min_tokens=1) if words(tokens) <= 2 and not glued(picture, tokens)]
        best = max(allowed, key=lambda tokens: ranking(picture, tokens))
        found = search(toy, pictures(picture), 1, options, WORD_START)[0][0]
        assert found.tokens == best
        assert found.log_probability == pytest.approx(toy.log_probability(picture, best), abs=1e-5)
        assert found.score == pytest.approx(found.log_probability, abs=1e-5)
        cut += len(best) > 1
    assert cut


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_limit_that_cuts_nothing_changes_nothing(num_beams: int) -> None:
    toy = ToyDecoder(vocabulary=6, max_tokens=6)
    free = SearchOptions(num_beams=num_beams, num_captions=num_beams, repetition_penalty=1.5)
    before, after = (search(toy, pictures(*range(9)), 9, one, WORD_START) for one in (free, free.override(max_words=7)))
    assert [[(h.tokens, h.score) for h in found] for found in after] == [
        [(h.tokens, h.score) for h in found] for found in before
    ]


def test_a_word_limit_needs_the_word_starts() -> None:
    with pytest.raises(ValueError, match="word_start"):
        search(ToyDecoder(), pictures(0), 1, SearchOptions(max_words=3))


def test_the_repetition_penalty_makes_repeats_rarer_but_leaves_the_probability_alone() -> None:
    toy = ToyDecoder(vocabulary=5, max_tokens=8)

    def distinct(penalty: float) -> float:
        options = SearchOptions(num_beams=1, min_tokens=6, repetition_penalty=penalty)
        found = [hypotheses[0] for hypotheses in search(toy, pictures(*range(30)), 30, options)]
        for picture, hypothesis in enumerate(found):
            expected = toy.log_probability(picture, hypothesis.tokens)
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-5)
        return float(np.mean([len(set(hypothesis.tokens)) for hypothesis in found]))

    assert distinct(3.0) > distinct(1.0)


def test_the_log_probabilities_given_are_left_as_they_are() -> None:
    log_probs = np.log(np.full((2, 6), 1 / 6, np.float32))
    before = log_probs.copy()
    options = SearchOptions(min_tokens=9, no_repeat_ngram=1, repetition_penalty=2.0, max_words=1)
    constraints = Constraints(options, eos_id=0, max_tokens=9, word_start=WORD_START)
    ranked = constraints.apply(log_probs, np.array([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(log_probs, before)
    assert np.isneginf(ranked[0, [1, 2, 3]]).all()
