"""Small corpora of real pictures for the tests of the readers."""

from collections.abc import Iterable
from pathlib import Path

from captionist.data import Corpus
from tests.pictures import write_png


def add_pictures(folder: Path, names: Iterable[str]) -> None:
    """A patchwork picture under each name, no two alike."""
    for seed, name in enumerate(names):
        write_png(folder / name, seed)


def problems(corpus: Corpus) -> set[tuple[str, str]]:
    """Kind and subject of each problem, none of them twice."""
    found: set[tuple[str, str]] = {(problem.kind, problem.subject) for problem in corpus.problems}
    assert len(found) == len(corpus.problems)
    return found


def splits(corpus: Corpus) -> dict[str, str]:
    """Each example's split."""
    return {example.id: example.split for example in corpus.examples}
