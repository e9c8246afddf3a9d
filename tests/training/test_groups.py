"""Captions of one picture that are near each other in a file are found again, and weighed by their agreement."""

import numpy as np
import pytest

from captionist.training.groups import agreement, find_groups
from captionist.training.seen import Floats
from captionist.training.sources import TextSource
from tests.model.checkpoints import Checkpoints
from tests.training.runs import NameLength

TEXTS = ["a dog", "a red circle", "the dog", "a circle in red", "a dog on green grass", "a man"]


def unit(rows: list[list[float]]) -> Floats:
    vectors = np.array(rows, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_neighbours_that_are_alike_are_a_group() -> None:
    vectors = unit([[1, 0, 0], [0, 1, 0], [1, 0.1, 0], [0, 1, 0.1], [1, 0, 0.2], [0, 0, 1]])
    assert find_groups(vectors.astype(np.float16), 80, 5) == [[0, 2, 4], [1, 3], [5]]
    assert find_groups(vectors, 80, 2) == [[0, 2], [1, 3], [4], [5]]  # the likest first
    assert find_groups(vectors, 1, 5) == [[0], [1], [2], [3], [4], [5]]


def test_long_files_are_read_in_parts() -> None:
    """Pairs across the border between two parts are found, too."""
    vectors = np.tile(np.eye(4, dtype=np.float32), (600, 1))[:2100]
    vectors = np.repeat(vectors, 2, axis=0)[:2100]
    groups = find_groups(vectors[1:], 1, 2)
    assert [999, 1000] in groups
    assert all(group[-1] - group[0] <= 1 for group in groups)
    assert sorted(line for group in groups for line in group) == list(range(2099))


def test_two_groups_are_one_only_if_they_are_alike_as_a_whole() -> None:
    """A chain of similar pairs does not make a group."""
    chain = [[np.cos(angle), np.sin(angle)] for angle in (0.0, 0.2, 1.0, 1.2)]
    assert find_groups(unit(chain), 80, 5) == [[0, 1, 2, 3]]
    chain = [[np.cos(angle), np.sin(angle)] for angle in (0.0, 0.2, 1.1, 2.0)]
    assert find_groups(unit(chain), 80, 5) == [[0, 1], [2, 3]]


def test_a_caption_that_says_what_the_others_say_counts_more() -> None:
    others = [[f"thing {number} stands here"] for number in range(8)]
    [weights, *_] = agreement([["two dogs run fast", "two dogs run away", "a nice day"], *others])
    assert 0.4 <= weights[2] < weights[1] <= 1.4
    assert weights[0] > weights[2]
    assert agreement([["a dog"], ["a cat"]]) == [[0.7], [0.7]]


def test_a_group_is_one_example(checkpoints: Checkpoints) -> None:
    heard, tokenizer = NameLength(), checkpoints.model().tokenizer
    source = TextSource("t", TEXTS, tokenizer, 16, 0.5, annotations=[heard], groups=[[0, 2, 4], [1, 3], [5]])
    table = source.table(True)
    assert len(table) == 3
    assert (table.rows(np.array([0]))[0] >= 0).any(1).sum() == 3
    weights = table.weights(np.array([2, 1]))
    assert weights is not None
    assert weights[0].tolist() == pytest.approx([0.35, 0, 0])
    assert (weights[1] > 0).tolist() == [True, True, False]
    source.annotations(np.array([1, 2]), (0,), np.array([0, 1]))
    assert heard.heard == ["a red circle a circle in red", "a man"]
    longest = max(range(6), key=lambda number: len(tokenizer.encode(" " + TEXTS[number]).ids))
    short = TextSource(
        "t", TEXTS, tokenizer, len(tokenizer.encode(" " + TEXTS[longest]).ids) - 1, groups=[[longest], [0]]
    )
    assert short.references == [("a dog",)]  # one that is too long is left out, and its group with it
