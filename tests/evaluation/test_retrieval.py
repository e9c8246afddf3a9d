"""Recall by hand."""

import numpy as np
import pytest

from captionist.evaluation.retrieval import Recall, recall

IMAGES = np.eye(3, dtype=np.float32)
# Each of the first two pictures has two sentences; the second one of the first is nearer to the third picture.
SENTENCES = np.array([[1.0, 0.1, 0.0], [0.1, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.2, 0.5]], np.float32)
SENTENCES /= np.linalg.norm(SENTENCES, axis=1, keepdims=True)
OWNERS = np.array([0, 0, 1, 1, 2])


def test_any_sentence_of_a_picture_counts() -> None:
    assert recall(IMAGES, SENTENCES, OWNERS, ranks=(1, 2)) == pytest.approx(
        {
            "image_to_text_1": 200 / 3,  # nearest to the third picture is a sentence of the first
            "image_to_text_2": 100.0,
            "text_to_image_1": 60.0,
            "text_to_image_2": 100.0,
        }
    )


def test_a_model_to_which_all_is_the_same_finds_nothing() -> None:
    same = np.ones((20, 1), np.float32)
    assert set(recall(same, same, np.arange(20)).values()) == {0.0}


def test_a_line_says_among_how_many() -> None:
    line = Recall(3, 5, recall(IMAGES, SENTENCES, OWNERS)).line()
    assert "among 3 pictures and 5 references" in line
    assert "image to text 66.7 @1, 100.0 @5, 100.0 @10; text to image 60.0 @1" in line
