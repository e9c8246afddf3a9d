"""A corpus beside others: whose examples are whose, and what is refused."""

from pathlib import Path

import pytest

from captionist.data import open_with
from captionist.errors import DataError
from tests.pictures import write_png


def export(folder: Path, seeds: range) -> Path:
    """A corpus as the service exports it: no split files, pictures named by something like a digest."""
    for seed in seeds:
        write_png(folder / "Images" / f"{seed:032x}.png", seed)
    rows = "".join(f"{seed:032x}.png,a patchwork of number {seed}\n" for seed in seeds)
    (folder / "captions.txt").write_text("image,caption\n" + rows, encoding="utf-8")
    return folder


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return export(tmp_path / "first", range(20))


def test_one_corpus_stays_as_it_is(first: Path) -> None:
    corpus, others = open_with(first, [])
    assert len(corpus.examples) == 20
    assert others == ()


def test_ids_of_the_others_carry_their_folder(first: Path, tmp_path: Path) -> None:
    also = [export(tmp_path / "a", range(20, 25)), export(tmp_path / "b", range(30, 35))]
    corpus, others = open_with(first, also)
    assert corpus.examples[0].id == f"{0:032x}.png"
    assert [other.examples[0].id for other in others] == [f"a/{20:032x}.png", f"b/{30:032x}.png"]
    assert all(Path(str(example.image)).is_file() for other in others for example in other.examples)


def test_a_folder_given_twice_is_refused(first: Path, tmp_path: Path) -> None:
    a = export(tmp_path / "a", range(20, 25))
    namesake = export(tmp_path / "elsewhere" / "a", range(30, 35))
    for also in ([a, a], [first], [a, namesake], [tmp_path / "a" / ".." / "a", a]):
        with pytest.raises(DataError, match=r"both called '.*': name every corpus once"):
            open_with(first, also)


def test_an_older_export_beside_a_newer_one_is_refused(first: Path, tmp_path: Path) -> None:
    also = [export(tmp_path / "monday", range(20, 23)), export(tmp_path / "friday", range(20, 25))]
    with pytest.raises(DataError, match=r"3 pictures are in two corpora.*only the newest belongs in data\.also"):
        open_with(first, also)


def test_what_is_no_corpus_is_named(first: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such directory"):
        open_with(first, [tmp_path / "nowhere"])
