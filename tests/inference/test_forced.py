"""Captions that the decoder did not write, scored as if it had."""

import numpy as np
import pytest

from captionist.inference.constraints import Constraints
from captionist.inference.forced import forced
from captionist.inference.search import SearchOptions, search
from tests.inference.toy import EOS, ToyDecoder, pictures


def test_forced_captions_have_the_probability_and_the_attention_of_each_step() -> None:
    toy = ToyDecoder(vocabulary=6, max_tokens=8)
    captions = [(1, 2, 3), (4,), (), (5, 5, 1, 2, 3, 4, 5, 1), (1, 2, 4)]
    for row in range(3):
        found = forced(toy, toy.prefill(pictures(10, 11, 12)), row, captions)
        for caption, hypothesis in zip(captions, found, strict=True):
            assert hypothesis.tokens == caption
            assert hypothesis.log_probability == pytest.approx(toy.log_probability(10 + row, caption), abs=1e-4)
            assert hypothesis.mean_log_probability == pytest.approx(hypothesis.score, abs=1e-4)
            looks = [toy.attention(10 + row, caption[:place]) for place in range(len(caption))]
            np.testing.assert_array_equal(hypothesis.attention, np.array(looks).reshape(-1, toy.prefix))


def test_what_the_search_wrote_is_read_as_it_was_written() -> None:
    toy = ToyDecoder(vocabulary=6, max_tokens=8)
    [written] = search(toy, pictures(3), 1, SearchOptions(num_beams=5, num_captions=5))
    read = forced(toy, toy.prefill(pictures(3)), 0, [h.tokens for h in written])
    for one, other in zip(written, read, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
        np.testing.assert_array_equal(one.attention, other.attention)


def test_no_caption_costs_no_step() -> None:
    toy = ToyDecoder()
    assert forced(toy, toy.prefill(pictures(0)), 0, []) == []
    assert toy.rows_stepped == 0


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        (SearchOptions(), {(1, 2), (1, 3, 2), (2, 2, 4), (1, 2, 1, 2)}),
        (SearchOptions(max_tokens=3), {(1, 2), (1, 3, 2), (2, 2, 4)}),
        (SearchOptions(min_tokens=3), {(1, 3, 2), (2, 2, 4), (1, 2, 1, 2)}),
        (SearchOptions(max_words=1), {(1, 2), (2, 2, 4)}),
        (SearchOptions(no_repeat_ngram=2), {(1, 2), (1, 3, 2), (2, 2, 4)}),
        (SearchOptions(no_repeat_ngram=1), {(1, 2), (1, 3, 2)}),
    ],
)
def test_constraints_hold_for_captions_of_others(setting: SearchOptions, allowed: set[tuple[int, ...]]) -> None:
    starts = np.array([False, True, False, True, False])
    constraints = Constraints(setting, eos_id=EOS, max_tokens=20, word_start=starts)
    captions = [(1, 2), (1, 3, 2), (2, 2, 4), (1, 2, 1, 2)]
    assert {caption for caption in captions if constraints.allows(caption)} == allowed


def test_a_caption_must_fit_the_decoder() -> None:
    constraints = Constraints(SearchOptions(), eos_id=EOS, max_tokens=2, word_start=None)
    assert constraints.allows((1, 2))
    assert not constraints.allows((1, 2, 3))
