import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from captionist.errors import ScoreError
from captionist.evaluation.cider import CiderD
from captionist.evaluation.words import Words
from tests.evaluation.samples import random_corpus


def by_pycocoevalcap(references: list[list[Words]], candidates: list[Words]) -> np.ndarray:
    _, scores = Cider().compute_score(
        {number: [" ".join(words) for words in group] for number, group in enumerate(references)},
        {number: [" ".join(words)] for number, words in enumerate(candidates)},
    )
    return np.asarray(scores)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocoevalcap_on_random_words(seed: int) -> None:
    references, candidates = random_corpus(60, seed)

    scores = CiderD(references).score(candidates, references)

    assert scores.max() > 1
    np.testing.assert_allclose(scores, by_pycocoevalcap(references, candidates), rtol=0, atol=1e-9)


def test_document_frequencies_stay_those_of_the_corpus() -> None:
    references, candidates = random_corpus(30)
    scorer = CiderD(references)

    of_all = scorer.score(candidates, references)
    of_some = scorer.score(candidates[10:13], references[10:13])

    np.testing.assert_array_equal(of_some, of_all[10:13])


def test_an_empty_corpus_is_an_error() -> None:
    with pytest.raises(ScoreError, match="document frequencies"):
        CiderD([])


def test_a_string_for_a_list_of_words_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="tokenize"):
        CiderD([["a dog runs"]])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="tokenize"):
        CiderD([[["a", "dog"]]]).score(["a dog"], [[["a", "dog"]]])  # type: ignore[list-item]
