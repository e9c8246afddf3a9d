"""Several corpora for one training: the first one, and what others add to its train split."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from captionist.data.readers import open_corpus
from captionist.data.records import Corpus
from captionist.errors import DataError
from captionist.images import ImageFile


def open_with(root: Path, also: Sequence[Path], format: str = "auto") -> tuple[Corpus, tuple[Corpus, ...]]:
    """Read the corpus in `root`, of that format, and others in addition, in any format.

    An example of the others is named `folder/id` after its corpus's folder. Raises DataError if one of them cannot be
    read, if two folders have the same name, or if a picture is, byte for byte, in two of the corpora, in whatever
    split: a dev picture would be trained on, or a train picture would weigh more than asked for.
    """
    first, others = open_corpus(root, format), [open_corpus(folder) for folder in also]
    named: dict[str, Corpus] = {}
    for corpus in (first, *others):
        other = named.setdefault(corpus.name, corpus)
        if other is not corpus:
            raise DataError(
                f"{other.root} and {corpus.root} are both called {corpus.name!r}: name every corpus once, and rename "
                "one folder if they are different corpora."
            )
    _require_distinct((first, *others))
    return first, tuple(
        replace(corpus, examples=tuple(replace(e, id=f"{corpus.name}/{e.id}") for e in corpus.examples))
        for corpus in others
    )


def _require_distinct(corpora: Sequence[Corpus]) -> None:
    """Only files of equal size are read. They are few, since a corpus's pictures hardly ever have the same size."""
    by_size: dict[int, list[tuple[Corpus, ImageFile]]] = defaultdict(list)
    for corpus in corpora if len(corpora) > 1 else ():
        for example in corpus.examples:
            with suppress(OSError):  # the run will report what cannot be read
                by_size[example.image.stat().st_size].append((corpus, example.image))
    repeated: list[tuple[ImageFile, ImageFile]] = []
    for group in by_size.values():
        if len({corpus.name for corpus, _ in group}) == 1:
            continue
        seen: dict[bytes, tuple[Corpus, ImageFile]] = {}
        for corpus, path in group:
            with suppress(OSError):
                other, earlier = seen.setdefault(hashlib.sha256(path.read_bytes()).digest(), (corpus, path))
                if other is not corpus:
                    repeated.append((earlier, path))
    if repeated:
        first, second = repeated[0]
        raise DataError(
            f"{len(repeated):,} pictures are in two corpora, such as {second}, which is {first}: take them out of one. "
            "A feedback export holds all that older ones hold, so only the newest belongs in data.also."
        )
