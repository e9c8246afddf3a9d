from typing import Any

import numpy as np
import pytest
from nltk.translate.bleu_score import corpus_bleu
from pycocoevalcap.rouge.rouge import Rouge

from captionist.errors import ScoreError
from captionist.evaluation.bleu import bleu
from captionist.evaluation.rouge import rouge_l
from captionist.evaluation.tokenize import tokenize
from tests.evaluation.samples import CANDIDATES, REFERENCES, random_corpus

WORDS = [[tokenize(text) for text in group] for group in REFERENCES.values()]
UNIFORM = [(1.0,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4]


@pytest.mark.parametrize("seed", range(3))
def test_bleu_is_nltks_corpus_bleu(seed: int) -> None:
    references, candidates = random_corpus(80, seed)
    values = bleu(references, candidates)
    assert values[3] > 0
    assert values == pytest.approx(corpus_bleu(references, candidates, UNIFORM), rel=1e-12)


@pytest.mark.parametrize("candidate", [[], ["nothing", "in", "common", "here"], ["a", "dog"]])
def test_no_overlap_is_zero(candidate: list[str]) -> None:
    assert bleu([[["a", "cat", "sat", "there"]]], [candidate])[3] == 0.0


@pytest.mark.parametrize(
    ("references", "candidates"),
    [
        ([["a dog runs"]], [["a", "dog"]]),
        (["a dog runs"], [["a", "dog"]]),
        ([[["a", "dog"]]], ["a dog"]),
        ([[[["a", "dog"]]]], [["a", "dog"]]),
    ],
)
def test_a_string_for_a_list_of_words_is_a_type_error(references: Any, candidates: Any) -> None:
    for scorer in (bleu, rouge_l):
        with pytest.raises(TypeError):
            scorer(references, candidates)


@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        ([], [], "nothing to score"),
        ([[["a"]]], [["a"], ["b"]], "2 candidates were given with 1"),
        ([[["a"]], []], [["a"], ["b"]], r"references\[1\] is empty"),
    ],
)
def test_what_cannot_be_scored_is_an_error(references: Any, candidates: Any, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        bleu(references, candidates)


def test_rouge_l_is_pycocoevalcaps() -> None:
    candidates = [tokenize(text) for text in CANDIDATES.values()]
    references_by_id = {number: [" ".join(words) for words in group] for number, group in enumerate(WORDS)}
    candidates_by_id = {number: [" ".join(words)] for number, words in enumerate(candidates)}

    _, expected = Rouge().compute_score(references_by_id, candidates_by_id)

    np.testing.assert_allclose(rouge_l(WORDS, candidates), expected)


def test_rouge_l_of_known_value() -> None:
    # The longest common subsequence is "a dog runs": 3 of the candidate's 4 words, 3 of the reference's 5.
    precision, recall, beta = 3 / 4, 3 / 5, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)

    values = rouge_l([[tokenize("a black dog runs fast")]] * 2, [tokenize("a dog runs away"), []])

    np.testing.assert_allclose(values, [expected, 0])
