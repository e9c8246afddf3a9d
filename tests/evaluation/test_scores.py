import re

import numpy as np
import pytest
from rich.console import Console

from captionist.errors import ScoreError
from captionist.evaluation.bleu import bleu
from captionist.evaluation.scores import cider_by_picture, render, score_captions
from captionist.evaluation.tokenize import tokenize
from tests.evaluation.samples import CANDIDATES, REFERENCES

pytestmark = pytest.mark.usefixtures("no_java")
ORACLE = {picture: group[0] for picture, group in REFERENCES.items()}


def test_scores_are_the_scorers_times_hundred() -> None:
    scores = score_captions(REFERENCES, CANDIDATES)

    words = [[tokenize(text) for text in group] for group in REFERENCES.values()]
    expected = bleu(words, [tokenize(text) for text in CANDIDATES.values()])
    found = [scores.bleu_1.value, scores.bleu_2.value, scores.bleu_3.value, scores.bleu_4.value]
    assert found == pytest.approx([100 * value for value in expected])
    assert scores.cider.value == pytest.approx(np.mean(list(cider_by_picture(REFERENCES, CANDIDATES).values())))
    for measure in scores.measures().values():
        assert measure.low <= measure.value <= measure.high
    assert (scores.pictures, scores.references_per_picture) == (4, 3.0)
    assert scores.distinct_share == 1.0
    assert scores.mean_words == pytest.approx((7 + 8 + 6 + 8) / 4)
    assert scores.empty_candidates == 0
    assert scores.meteor is None
    assert any("METEOR is missing" in note and "Java" in note for note in scores.notes)


def test_a_reference_as_the_candidate_is_the_best_there_is() -> None:
    scores = score_captions({picture: [text] for picture, text in ORACLE.items()}, ORACLE)

    assert scores.bleu_4.value == scores.rouge_l.value == 100
    assert scores.cider.value == pytest.approx(1000)


def test_one_sentence_for_every_picture_scores_near_nothing_in_cider() -> None:
    scores = score_captions(REFERENCES, dict.fromkeys(REFERENCES, "a man in a blue shirt"))

    assert scores.distinct_share == 0.25
    assert scores.cider.value < score_captions(REFERENCES, CANDIDATES).cider.value / 5


def test_the_order_of_the_ids_does_not_matter() -> None:
    backwards = {picture: CANDIDATES[picture] for picture in reversed(CANDIDATES)}

    assert score_captions(REFERENCES, backwards) == score_captions(REFERENCES, CANDIDATES)


def test_empty_candidates_score_zero_and_are_counted() -> None:
    scores = score_captions(REFERENCES, {**CANDIDATES, "pool": "", "hill": " . "})
    nothing = score_captions(REFERENCES, dict.fromkeys(REFERENCES, ""))

    assert scores.empty_candidates == 2
    assert cider_by_picture(REFERENCES, {**CANDIDATES, "pool": ""})["pool"] == 0
    assert nothing.empty_candidates == 4
    assert {measure.high for measure in nothing.measures().values()} == {0}


def test_ids_that_do_not_match_are_named() -> None:
    fewer = {"beach": "a dog", "pool": "a boy"}
    renamed = {**CANDIDATES, "a.jpg": "a dog", "b.jpg": "a dog", "c.jpg": "a dog", "d.jpg": "a dog"}

    with pytest.raises(ScoreError, match=re.escape("2 pictures (hill, street) have no candidate")):
        score_captions(REFERENCES, fewer)
    with pytest.raises(ScoreError, match=re.escape("4 pictures (a.jpg, b.jpg, c.jpg, ...) have a candidate but no")):
        score_captions(REFERENCES, renamed)
    with pytest.raises(ScoreError, match="nothing to score"):
        score_captions({}, {})


def test_references_without_words_are_left_out_and_noted() -> None:
    with_blank = {**REFERENCES, "pool": [*REFERENCES["pool"], " . "]}

    scores = score_captions(with_blank, CANDIDATES)

    assert scores.cider == score_captions(REFERENCES, CANDIDATES).cider
    assert "1 references hold no word and were left out." in scores.notes
    with pytest.raises(ScoreError, match=re.escape("1 picture (pool) has no reference with a word in it")):
        score_captions({**REFERENCES, "pool": [" . "]}, CANDIDATES)


def test_a_single_picture_is_told_why_its_cider_is_zero() -> None:
    scores = score_captions({"beach": REFERENCES["beach"]}, {"beach": CANDIDATES["beach"]})

    assert scores.cider.value == 0
    assert any("single picture" in note for note in scores.notes)


def test_the_table_shows_scores_intervals_and_how_they_were_counted() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render(score_captions(REFERENCES, {**CANDIDATES, "pool": ""})))
    text = capture.get()

    for piece in ("BLEU-4", "CIDEr-D", " to ", "4 pictures, 3 references each", "without a word", "PTB", "METEOR is"):
        assert piece in text
