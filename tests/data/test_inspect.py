"""A corpus in numbers, and the tables that show them."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from captionist.data import CaptionFilter, Corpus, CorpusSummary, Example, Problem, inspect_corpus, render


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


def shown(summary: CorpusSummary) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(render(summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_counts() -> None:
    summary = inspect_corpus(CORPUS)
    assert (summary.images, summary.captions) == (3, 6)
    assert [(split.name, split.images, split.captions) for split in summary.splits] == [("train", 2, 5), ("dev", 1, 1)]
    assert summary.captions_per_image == {1: 1, 2: 1, 3: 1}
    # a dog runs / a dog runs / the dog's t-shirt red / a dog runs / one .. six / seven .. reference
    assert summary.words.mean == pytest.approx((3 + 3 + 4 + 3 + 6 + 7) / 6)
    assert (summary.words.median, summary.words.longest) == (3.5, 7)
    assert summary.words.percentile_95 == pytest.approx(6.75)
    assert summary.distinct_words == 3 + 4 + 6 + 7
    assert summary.frequent_words == 0
    assert (summary.repeated_captions, summary.repeated_on_same_image) == (2, 1)
    assert (summary.tokens, summary.filtered) == (None, None)


def test_a_word_is_frequent_from_five_times_on() -> None:
    corpus = make_corpus(Example("a.jpg", Path("a.jpg"), ("a dog", "A dog .", "a cat", "a dog , a dog"), "train"))
    assert inspect_corpus(corpus).frequent_words == 1  # "a" five times, "dog" four


def test_tokens_and_drops_are_of_cleaned_captions_and_drops_of_training_alone() -> None:
    summary = inspect_corpus(CORPUS, CaptionFilter(max_tokens=4, count_tokens=count_words))
    assert summary.tokens is not None
    assert summary.tokens.longest == 7  # the full stop of the dev caption is gone
    assert summary.filtered is not None
    assert summary.filtered.captions == 5
    assert [(drop.id, drop.caption) for drop in summary.filtered.dropped] == [("b.jpg", "one two three four five six")]


def test_a_recipe_that_lower_cases_is_counted_lower_case() -> None:
    seen: set[str] = set()

    def count(text: str) -> int:
        seen.add(text)
        return 1

    inspect_corpus(CORPUS, CaptionFilter(count_tokens=count), lowercase=True)
    assert "the dog's t-shirt, red" in seen
    assert all(text == text.lower() for text in seen)


def test_a_filter_that_drops_everything_is_shown_and_not_raised() -> None:
    summary = inspect_corpus(CORPUS, CaptionFilter(max_tokens=1, count_tokens=count_words))
    assert summary.filtered is not None
    assert summary.filtered.emptied == ("a.jpg", "b.jpg")
    assert "dropped 5 of 5 captions (100.0%)" in shown(summary)


def test_a_corpus_without_a_training_split_has_no_drops() -> None:
    corpus = make_corpus(*CORPUS.split("dev"))
    summary = inspect_corpus(corpus, CaptionFilter(count_tokens=count_words))
    assert summary.tokens is not None
    assert summary.filtered is None
    assert "Nothing was left out" in shown(summary)


def test_problems_are_totalled_by_kind_with_the_first_few() -> None:
    missing, short = inspect_corpus(CORPUS).problems
    assert (missing.kind, missing.total, [problem.subject for problem in missing.first]) == (
        "missing_picture",
        1200,
        ["0.jpg", "1.jpg", "2.jpg"],
    )
    assert (short.kind, short.total, len(short.first)) == ("short_row", 1, 1)


def test_the_tables_show_it_all_within_80_columns() -> None:
    text = shown(inspect_corpus(CORPUS, CaptionFilter(max_tokens=4, count_tokens=count_words)))
    for piece in ("tiny", "by hand", "train", "dev", "distinct words", "missing_picture 1,200", "and 1,197 more"):
        assert piece in text
    assert "captions.txt:7: no comma between name and caption" in text
    assert "6 tokens, b.jpg: one two three four five six" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_text_from_the_corpus_cannot_style_the_terminal() -> None:
    problem = Problem("missing_picture", "\x1b[31m[bold]x[/bold].jpg", "captions lost: 1, split: none")
    text = shown(inspect_corpus(make_corpus(*CORPUS.examples, problems=(problem,))))
    assert "\x1b" not in text
    assert "[bold]x[/bold].jpg" in text
