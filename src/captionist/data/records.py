"""What a corpus is made of: examples with a split, and what the reader found wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from captionist.errors import DataError
from captionist.images import ImageFile

SPLITS = ("train", "dev", "test", "none")

ProblemKind = Literal[
    "missing_picture",
    "empty_picture",
    "unreadable_picture",
    "picture_without_captions",
    "unknown_name",
    "short_row",
    "bad_encoding",
    "damaged_shard",
    "bad_member",
    "shared_id",
]

PROBLEM_MEANINGS: dict[ProblemKind, str] = {
    "missing_picture": "has captions, but there is no such picture",
    "empty_picture": "the picture file has 0 bytes",
    "unreadable_picture": "the picture cannot be decoded",
    "picture_without_captions": "a picture that has no usable caption",
    "unknown_name": "named in a split file, but has no captions",
    "short_row": "a caption row that has no name or no words, or cannot be parsed",
    "bad_encoding": "a line that is not UTF-8",
    "damaged_shard": "an archive that cannot be read, or only in part",
    "bad_member": "a file in an archive that cannot be used as packed",
    "shared_id": "an id that several pictures have, or a caption of it",
}


@dataclass(frozen=True, slots=True)
class Example:
    """One picture and the captions that people wrote for it."""

    id: str
    """The picture's file name, or its path from the root, unique within a corpus."""
    image: ImageFile
    references: tuple[str, ...]
    """As they stand in the corpus, without white space at the ends; never empty."""
    split: str
    """One of SPLITS; "none" is a picture that the corpus assigns to no split."""
    weights: tuple[float, ...] = ()
    """How much each reference counts in training, if the corpus says so; empty: each counts 1."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the reader left out of the corpus, and why."""

    kind: ProblemKind
    subject: str
    """What it is about: a picture's file name, a line of a text file as `captions.txt:12`, an archive, or a file in one
    as `train-0.tar/7.txt`.
    """
    detail: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything that a reader found in a directory."""

    name: str
    root: Path
    format: str
    split_origin: str
    """Where the split comes from, in words for a person."""
    examples: tuple[Example, ...]
    """Ordered by id, each id once."""
    problems: tuple[Problem, ...]

    def split(self, name: str) -> tuple[Example, ...]:
        """The examples of one split, ordered by id.

        Raises:
            DataError: the corpus has no example in that split; the message lists the splits that it has.
        """
        chosen = tuple(example for example in self.examples if example.split == name)
        if chosen:
            return chosen
        sizes = Counter(example.split for example in self.examples)
        present = ", ".join(f"{split} ({sizes[split]:,})" for split in SPLITS if sizes[split])
        hint = ' The validation split is called "dev" here.' if name in ("val", "valid", "validation") else ""
        if name in ("train", "dev") and not hint:
            hint = " Add pictures (a split by name puts one in ten into dev), or name the splits in split files."
        raise DataError(f"{self.root}: no picture in split {name!r}; this corpus has {present or 'none at all'}.{hint}")


def problem_counts(problems: Sequence[Problem]) -> dict[ProblemKind, int]:
    """How many problems there are of each kind that occurs, in the order of PROBLEM_MEANINGS."""
    found = Counter(problem.kind for problem in problems)
    return {kind: found[kind] for kind in PROBLEM_MEANINGS if found[kind]}
