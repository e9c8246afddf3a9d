"""A corpus in numbers, and the tables that show them."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from captionist.data import CaptionFilter, Corpus, Example, Problem, inspect_corpus


def count_words(text: str) -> int:
    return len(text.split())


def make_corpus(*examples: Example, problems: tuple[Problem, ...] = ()) -> Corpus:
    return Corpus("tiny", Path("tiny"), "flickr8k", "by hand", examples, problems)


CORPUS = make_corpus(
    Example("a.jpg", Path("a.jpg"), ("A dog runs .", "a dog runs", "The dog 's t-shirt , red ."), "train"),
    Example("b.jpg", Path("b.jpg"), ("A dog runs !", "one two three four five six"), "train"),
    Example("c.jpg", Path("c.jpg"), ("seven long words are in this reference .",), "dev"),
    problems=(
        *(Problem("missing_picture", f"{i}.jpg", "captions lost: 5, split: train") for i in range(1200)),
        Problem("short_row", "captions.txt:7", "no comma between name and caption"),
    ),
)


def shown(corpus: Corpus, caption_filter: CaptionFilter | None = None, **options: Any) -> str:
    """What is shown on a terminal of 80 columns, its white space as single spaces; each line fits."""
    file = io.StringIO()
    Console(file=file, width=80).print(inspect_corpus(corpus, caption_filter, **options))
    assert max(map(len, file.getvalue().splitlines())) <= 80
    return re.sub(r"[ ─]+", " ", file.getvalue())


def test_counts() -> None:
    # a dog runs / a dog runs / the dog's t-shirt red / a dog runs / one .. six / seven .. reference
    text = shown(CORPUS)
    for piece in (
        "tiny flickr8k, in tiny\nSplit: by hand.",
        "train 2 5",
        "dev 1 1",
        "all 3 6",
        "words 4.3 3.5 6.75 7",
        f"distinct words {3 + 4 + 6 + 7}",
        "seen at least 5 times 0",
        "captions that repeat an earlier one 2",
        "of the same picture 1",
        "pictures with 1 caption 1",
        "pictures with 3 captions 1",
        "Left out by the reader: 1,201",
        "missing_picture 1,200: has captions, but there is no such picture\n 0.jpg: captions lost: 5, split: train",
        "2.jpg: captions lost: 5, split: train\n and 1,197 more",
        "captions.txt:7: no comma between name and caption",
        "The pictures were not opened",
    ):
        assert piece in text
    assert "tokens" not in text
    assert "not opened" not in shown(CORPUS, opened=True)


def test_a_word_is_frequent_from_five_times_on() -> None:
    corpus = make_corpus(Example("a.jpg", Path("a.jpg"), ("a dog", "A dog .", "a cat", "a dog , a dog"), "train"))
    assert "seen at least 5 times 1" in shown(corpus)  # "a" five times, "dog" four


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (4, "dropped 1 of 5 captions (20.0%) of more than 4 tokens\n 6 tokens, b.jpg: one two three four five six"),
        (1, "dropped 5 of 5 captions (100.0%)"),
    ],
)
def test_tokens_and_drops_are_of_cleaned_captions_and_drops_of_training_alone(most: int, said: str) -> None:
    text = shown(CORPUS, CaptionFilter(max_tokens=most, count_tokens=count_words))
    assert re.search(r"tokens [\d.]+ [\d.]+ [\d.]+ 7\n", text)  # the full stop of the dev caption is gone
    assert said in text


def test_a_recipe_that_lower_cases_is_counted_lower_case() -> None:
    seen: set[str] = set()

    def count(text: str) -> int:
        seen.add(text)
        return 1

    inspect_corpus(CORPUS, CaptionFilter(count_tokens=count), lowercase=True)
    assert "the dog's t-shirt, red" in seen
    assert all(text == text.lower() for text in seen)


def test_a_corpus_without_a_training_split_has_no_drops() -> None:
    text = shown(make_corpus(*CORPUS.split("dev")), CaptionFilter(count_tokens=count_words))
    assert "tokens" in text
    assert "dropped" not in text
    assert "Nothing was left out" in text


def test_text_from_the_corpus_cannot_style_the_terminal() -> None:
    problem = Problem("missing_picture", "\x1b[31m[bold]x[/bold].jpg", "captions lost: 1, split: none")
    text = shown(make_corpus(*CORPUS.examples, problems=(problem,)))
    assert "\x1b" not in text
    assert "[bold]x[/bold].jpg" in text
