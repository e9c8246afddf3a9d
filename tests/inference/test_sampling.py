"""Sampling: reproducible, and true to the distribution."""

from collections import Counter

import numpy as np
import pytest

from captionist.inference.search import Sampling, SearchOptions, search
from tests.inference.toy import ToyDecoder, pictures


def first_tokens(sampling: Sampling) -> Counter[int]:
    """How often each token comes first among 4000 captions of picture 3, of five possible first tokens (1 to 5)."""
    first: Counter[int] = Counter()
    for seed in range(4):
        own = sampling.model_copy(update={"seed": seed})
        options = SearchOptions(num_captions=1000, max_tokens=1, sample=own)
        [found] = search(ToyDecoder(vocabulary=6), pictures(3), 1, options)
        first.update(hypothesis.tokens[0] for hypothesis in found)
    return first


def expected(temperature: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Probabilities of the tokens 1 to 5, the end of text being forbidden at first."""
    logits = ToyDecoder(vocabulary=6).logits(3, ()).astype(np.float64)[1:] / temperature
    weights = np.exp(logits)
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_they_are_probable(temperature: float) -> None:
    counts = first_tokens(Sampling(temperature=temperature))
    frequencies = np.array([counts[token] for token in range(1, 6)]) / 4000
    np.testing.assert_allclose(frequencies, expected(temperature), atol=4 * np.sqrt(0.25 / 4000))


def test_top_k_keeps_the_k_most_probable() -> None:
    best = np.argsort(-expected())[:2] + 1
    assert set(first_tokens(Sampling(top_k=2))) == set(best.tolist())


def test_top_p_keeps_the_smallest_set_that_holds_it() -> None:
    order = np.argsort(-expected())
    held = np.cumsum(expected()[order])
    for kept in (1, 2, 3):
        top_p = float((held[kept - 1] + (held[kept - 2] if kept > 1 else 0)) / 2)
        assert set(first_tokens(Sampling(top_p=top_p))) == set((order[:kept] + 1).tolist())


def test_a_seed_gives_the_same_captions_alone_and_in_a_batch() -> None:
    toy = ToyDecoder(vocabulary=9, max_tokens=8)
    options = SearchOptions(num_captions=4, sample=Sampling(seed=11, temperature=1.5))
    together = search(toy, pictures(*range(6)), 6, options)
    for picture, found in enumerate(together):
        [alone] = search(toy, pictures(picture), 1, options)
        assert [h.tokens for h in found] == [h.tokens for h in alone]
    other = search(toy, pictures(*range(6)), 6, options.override(sample=Sampling(seed=12, temperature=1.5)))
    assert [h.tokens for h in other[0]] != [h.tokens for h in together[0]]


def test_samples_carry_the_log_probability_of_the_model() -> None:
    """Whatever the temperature and the cut, and the best score comes first."""
    toy = ToyDecoder(vocabulary=9, max_tokens=8)
    options = SearchOptions(num_captions=5, length_penalty=0.5, sample=Sampling(seed=3, temperature=0.4, top_k=4))
    for picture, found in enumerate(search(toy, pictures(0, 1, 2), 3, options)):
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True)
        for hypothesis in found:
            value = toy.log_probability(picture, hypothesis.tokens)
            assert hypothesis.log_probability == pytest.approx(value, abs=1e-5)
            assert hypothesis.attention.shape == (len(hypothesis.tokens), toy.prefix)
            for place, row in enumerate(hypothesis.attention):
                np.testing.assert_array_equal(row, toy.attention(picture, hypothesis.tokens[:place]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**changes)  # type: ignore[arg-type]
