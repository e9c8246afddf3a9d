"""What a corpus holds, in numbers: the answer of `captionist data inspect`."""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from captionist.data.filters import CaptionFilter, FilterResult, clean_caption, clean_references
from captionist.data.records import SPLITS, Corpus, Example, Problem, ProblemKind, problem_counts

FIRST_FEW = 3
"""How many samples of each kind of loss a summary shows."""
FREQUENT = 5
"""A word seen this often counts as frequent, the usual bar for a captioning vocabulary."""

_WORD = re.compile(r"[^\W_]+(?:[-'.&][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long captions are, in words or in tokens."""

    mean: float
    median: float
    percentile_95: float
    longest: int


@dataclass(frozen=True, slots=True)
class SplitSize:
    """How much of a corpus is in one split."""

    name: str
    images: int
    captions: int


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """All problems of one kind: how many, and the first few."""

    kind: ProblemKind
    total: int
    first: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class CorpusSummary:
    """A corpus in numbers. Words are counted without case and punctuation; `dog's` and `t-shirt` are one word each."""

    name: str
    root: Path
    format: str
    split_origin: str
    images: int
    captions: int
    splits: tuple[SplitSize, ...]
    """The splits that hold a picture, in the order of SPLITS."""
    captions_per_image: dict[int, int]
    """Number of captions -> number of pictures that have so many."""
    words: Lengths
    tokens: Lengths | None
    """Of the cleaned captions, by the filter's tokeniser; None without a filter."""
    distinct_words: int
    frequent_words: int
    """Words that occur at least FREQUENT times."""
    repeated_captions: int
    """Captions that say, case and punctuation aside, what an earlier caption of the corpus says."""
    repeated_on_same_image: int
    """Those of them where the earlier caption is of the same picture."""
    filtered: FilterResult | None
    """What the length filter does to the training split; None without a filter or a training split."""
    problems: tuple[ProblemGroup, ...]
    opened: bool
    """Whether the pictures were opened, too."""


def inspect_corpus(
    corpus: Corpus, caption_filter: CaptionFilter | None = None, *, lowercase: bool = False, opened: bool = False
) -> CorpusSummary:
    """Count what a corpus holds and what a training on it would leave out.

    Args:
        corpus: as `open_corpus` gives it.
        caption_filter: the length filter of a recipe; without one nothing is said of tokens and of drops.
        lowercase: whether that recipe lower-cases captions, which changes how many tokens they have.
        opened: whether `open_all` has left out what cannot be decoded.
    """
    examples = corpus.examples
    words = [_words(caption) for example in examples for caption in example.references]
    vocabulary = Counter(word for caption in words for word in caption)
    splits = [(name, [example for example in examples if example.split == name]) for name in SPLITS]
    tokens: Lengths | None = None
    filtered: FilterResult | None = None
    if caption_filter is not None:
        # The length statistics and the filter count the same captions: count each once.
        caption_filter = replace(caption_filter, count_tokens=functools.cache(caption_filter.count_tokens))
        cleaned = clean_references(examples, lowercase)
        tokens = _lengths([caption_filter.count_tokens(text) for example in cleaned for text in example.references])
        train = [example for example in cleaned if example.split == "train"]
        filtered = caption_filter.partition(train) if train else None
    return CorpusSummary(
        name=corpus.name,
        root=corpus.root,
        format=corpus.format,
        split_origin=corpus.split_origin,
        images=len(examples),
        captions=len(words),
        splits=tuple(SplitSize(name, len(members), _captions(members)) for name, members in splits if members),
        captions_per_image=dict(sorted(Counter(len(example.references) for example in examples).items())),
        words=_lengths([len(caption) for caption in words]),
        tokens=tokens,
        distinct_words=len(vocabulary),
        frequent_words=sum(count >= FREQUENT for count in vocabulary.values()),
        repeated_captions=len(words) - len({tuple(caption) for caption in words}),
        repeated_on_same_image=sum(_repeats(example) for example in examples),
        filtered=filtered,
        problems=tuple(
            ProblemGroup(kind, total, tuple(p for p in corpus.problems if p.kind == kind)[:FIRST_FEW])
            for kind, total in problem_counts(corpus.problems).items()
        ),
        opened=opened,
    )


def _words(caption: str) -> list[str]:
    return _WORD.findall(clean_caption(caption, lowercase=True))


def _captions(examples: Sequence[Example]) -> int:
    return sum(len(example.references) for example in examples)


def _repeats(example: Example) -> int:
    return len(example.references) - len({tuple(_words(caption)) for caption in example.references})


def _lengths(counts: Sequence[int]) -> Lengths:
    return Lengths(
        mean=float(np.mean(counts)),
        median=float(np.median(counts)),
        percentile_95=float(np.percentile(counts, 95)),
        longest=max(counts),
    )
