"""Cleaning captions and dropping long ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from captionist.data import CaptionFilter, Example, clean_caption, clean_references
from captionist.errors import DataError


def count_words(text: str) -> int:
    return len(text.split())


def example(name: str, *references: str) -> Example:
    return Example(name, Path(name), references, "train")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A child in a pink dress .", "A child in a pink dress"),
        ("A black dog and a spotted dog are fighting", "A black dog and a spotted dog are fighting"),
        ("A girl holding a horse 's lead , behind a fire .", "A girl holding a horse's lead, behind a fire"),
        ("A dog that does n't run", "A dog that doesn't run"),
        ('A woman in a " fire department " uniform .', 'A woman in a "fire department" uniform'),
        ('a sign that says " active . "', 'a sign that says "active"'),
        ('A boy making an " oh ! " face .', 'A boy making an "oh!" face'),
        ('a " quotation " and a lone " mark .', 'a " quotation " and a lone " mark'),
        ("Man on an ATV catching air !", "Man on an ATV catching air!"),
        ("( almost fish eye ) lens .", "(almost fish eye) lens"),
        ("A S.C.U.B.A. diver ; Mr. Potato head .", "A S.C.U.B.A. diver; Mr. Potato head"),
        ("How beautiful ....", "How beautiful"),
        ("  A\tdog \u00a0 runs\n", "A dog runs"),
        ("A dog\u2019s \u201ctoy\u201d and ``ball''", 'A dog\'s "toy" and "ball"'),
        ("Two boys ' football teams", "Two boys ' football teams"),
    ],
)
def test_clean_caption(raw: str, clean: str) -> None:
    assert clean_caption(raw, lowercase=False) == clean
    assert clean_caption(raw, lowercase=True) == clean.lower()
    assert clean_caption(clean, lowercase=False) == clean


def test_clean_references_cleans_each_and_changes_nothing_else() -> None:
    assert clean_references([example("a.jpg", "A dog .", "The cat .")], lowercase=True) == (
        example("a.jpg", "a dog", "the cat"),
    )


def test_the_filter_keeps_captions_of_just_the_limit() -> None:
    examples = [example("a.jpg", "one two three", "one two three four"), example("b.jpg", "one two three four five")]
    result = CaptionFilter(max_tokens=3, count_tokens=count_words).apply(examples)
    assert result.examples == (example("a.jpg", "one two three"),)
    assert [(drop.id, drop.caption, drop.tokens) for drop in result.dropped] == [
        ("a.jpg", "one two three four", 4),
        ("b.jpg", "one two three four five", 5),
    ]
    assert result.emptied == ("b.jpg",)
    assert str(result) == ("dropped 2 of 3 captions (66.7%) of more than 3 tokens; pictures left without a caption: 1")


@pytest.mark.parametrize("examples", [[], [example("a.jpg", "one two three four")]])
def test_nothing_left_is_an_error(examples: list[Example]) -> None:
    caption_filter = CaptionFilter(max_tokens=3, count_tokens=count_words)
    with pytest.raises(DataError, match=r"no caption to learn from is left.*of more than 3 tokens"):
        caption_filter.apply(examples)
    assert caption_filter.partition(examples).examples == ()


def test_a_caption_keeps_its_weight() -> None:
    weighed = replace(example("a.jpg", "a dog .", "one two three four", "A cat"), weights=(0.5, 1.0, 0.25))
    (kept,) = CaptionFilter(max_tokens=3, count_tokens=count_words).apply(clean_references([weighed], True)).examples
    assert (kept.references, kept.weights) == (("a dog", "a cat"), (0.5, 0.25))
