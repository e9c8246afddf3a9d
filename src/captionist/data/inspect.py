"""What a corpus holds, in numbers: the answer of `captionist data inspect`."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from captionist.data.filters import CaptionFilter, FilterResult, clean_caption, clean_references
from captionist.data.records import PROBLEM_MEANINGS, SPLITS, Corpus, Example, Problem, problem_counts

_FIRST_FEW = 3  # samples of each kind of loss
_FREQUENT = 5  # times a word is seen: the usual bar for a captioning vocabulary
_WORD = re.compile(r"[^\W_]+(?:[-'.&][^\W_]+)*")


def inspect_corpus(
    corpus: Corpus, caption_filter: CaptionFilter | None = None, *, lowercase: bool = False, opened: bool = False
) -> RenderableType:
    """Tables of what a corpus holds and of what training on it would leave out, for a terminal of 80 columns.

    Words are counted without case and punctuation; `dog's` and `t-shirt` are one word each.

    Args:
        corpus: as `open_corpus` returns it.
        caption_filter: a recipe's length filter; without one, tokens and dropped captions are not shown.
        lowercase: whether that recipe lower-cases captions, which changes how many tokens they have.
        opened: whether `open_all` has left out what cannot be decoded.
    """
    heading = Text.assemble(
        (corpus.name, "bold"), f"  {corpus.format}, in {corpus.root}\nSplit: {corpus.split_origin}."
    )
    words = [[_words(caption) for caption in example.references] for example in corpus.examples]
    lengths = _table("Caption length", "in", "mean", "median", "95th percentile", "longest")
    _add_lengths(lengths, "words", [len(caption) for captions in words for caption in captions])
    parts: list[RenderableType] = [heading, _splits(corpus.examples), lengths, _language(words)]
    if caption_filter is not None:
        # The length statistics and the filter count the same captions, so cache the counts.
        caption_filter = replace(caption_filter, count_tokens=functools.cache(caption_filter.count_tokens))
        cleaned = clean_references(corpus.examples, lowercase)
        _add_lengths(lengths, "tokens", [caption_filter.count_tokens(text) for e in cleaned for text in e.references])
        if train := [example for example in cleaned if example.split == "train"]:
            parts.append(_drops(caption_filter.partition(train)))
    parts.append(_problems(corpus.problems) if corpus.problems else Text("Nothing was left out by the reader."))
    if not opened:
        parts.append(Text("The pictures were not opened: --open-pictures finds those that cannot be read."))
    return Group(*(line for part in parts for line in (part, "")))


def _words(caption: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(clean_caption(caption, lowercase=True)))


def _table(title: str, *columns: str) -> Table:
    """A table whose first column holds names and whose others hold figures."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _add_lengths(table: Table, unit: str, counts: Sequence[int]) -> None:
    mean, median, most = np.mean(counts), np.median(counts), np.percentile(counts, 95)
    table.add_row(unit, f"{mean:.1f}", f"{median:g}", f"{most:g}", f"{max(counts):,}")


def _splits(examples: Sequence[Example]) -> Table:
    table = _table("Pictures and captions", "split", "pictures", "captions")
    for name in (*SPLITS, "all"):
        members = [example for example in examples if name in (example.split, "all")]
        if name == "all":
            table.add_section()
        if members:
            table.add_row(name, f"{len(members):,}", f"{sum(len(example.references) for example in members):,}")
    return table


def _language(words: Sequence[Sequence[tuple[str, ...]]]) -> Table:
    """words: for each picture, those of each caption."""
    captions = [caption for group in words for caption in group]
    vocabulary = Counter(word for caption in captions for word in caption)
    frequent = sum(count >= _FREQUENT for count in vocabulary.values())
    table = _table("Language", "", "count")
    table.add_row("distinct words", f"{len(vocabulary):,}")
    table.add_row(f"  seen at least {_FREQUENT} times", f"{frequent:,}")
    table.add_row("captions that repeat an earlier one", f"{len(captions) - len(set(captions)):,}")
    table.add_row("  of the same picture", f"{sum(len(group) - len(set(group)) for group in words):,}")
    for count, pictures in sorted(Counter(map(len, words)).items()):
        table.add_row(f"pictures with {count} caption{'' if count == 1 else 's'}", f"{pictures:,}")
    return table


def _drops(result: FilterResult) -> RenderableType:
    samples = (f"{drop.tokens} tokens, {drop.id}: {drop.caption}" for drop in result.dropped[:_FIRST_FEW])
    heading = Text("Length filter (training captions only)", style="bold")
    return Group(heading, _with_samples(Text(str(result)), samples, len(result.dropped)))


def _problems(problems: Sequence[Problem]) -> RenderableType:
    listings: list[RenderableType] = []
    for kind, total in problem_counts(problems).items():
        line = Text.assemble((f"{kind} {total:,}", "yellow"), f": {PROBLEM_MEANINGS[kind]}")
        first = [problem for problem in problems if problem.kind == kind][:_FIRST_FEW]
        listings.append(_with_samples(line, (f"{problem.subject}: {problem.detail}" for problem in first), total))
    return Group(Text(f"Left out by the reader: {len(problems):,}", style="bold"), *listings)


def _with_samples(line: Text, samples: Iterable[str], total: int) -> RenderableType:
    """The line, the samples indented below it, and how many more there are."""
    # Names and captions come from strangers' files: none of their escape sequences may reach the terminal.
    shown = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in sample) for sample in samples]
    if total > len(shown):
        shown.append(f"and {total - len(shown):,} more")
    return Group(line, *(Padding(Text(sample, style="dim"), (0, 0, 0, 2), expand=False) for sample in shown))
