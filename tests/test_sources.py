"""What the command line's arguments lead to."""

import os
from pathlib import Path

import pytest

from captionist.sources import Found, Source, find_sources


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with pictures (of no content: nobody opens them here)."""
    for name in ("b.jpg", "a.png", ".hidden.jpg", "sub/c.gif", "sub/deep/d.jpg", ".git/e.jpg", "sub/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def no_stdin() -> bytes:
    raise AssertionError("standard input was not asked for")


def find(*arguments: str) -> Found:
    return find_sources(arguments, no_stdin)


def names(found: Found) -> list[str]:
    return [source.name for source in found.sources]


def test_what_lies_beside_pictures_is_skipped_in_folders_and_counted(here: Path) -> None:
    beside = ["a.png.xmp", "B.MOV", "Thumbs.db", ".DS_Store", "captions.json", "dir.txt/e.jpg", "no-suffix", "scan.pdf"]
    for name in beside:
        (here / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "lib" / name).write_bytes(b"")
    found = find("lib")
    assert names(found) == ["lib/no-suffix", "lib/scan.pdf", "lib/dir.txt/e.jpg"]
    assert (found.skipped, found.errors) == (5, [])
    named = find("lib/B.MOV", "lib/*.xmp", "lib/.DS_Store")
    assert names(named) == ["lib/B.MOV", "lib/a.png.xmp", "lib/.DS_Store"]
    assert named.skipped == 0


@pytest.mark.usefixtures("here")
def test_names_stay_as_they_were_given() -> None:
    assert names(find("./b.jpg", "sub/../a.png", "missing.jpg")) == ["./b.jpg", "sub/../a.png", "missing.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b.jpg"]),
        ("?.*", ["a.png", "b.jpg"]),
        ("**/*.jpg", ["b.jpg", "sub/deep/d.jpg"]),
        ("s*b", ["sub/c.gif", "sub/deep/d.jpg"]),
    ],
)
@pytest.mark.usefixtures("here")
def test_globs(pattern: str, expected: list[str]) -> None:
    assert names(find(pattern)) == expected


def test_a_file_with_brackets_in_its_name_is_itself(here: Path) -> None:
    (here / "a[1].png").write_bytes(b"")
    assert names(find("a[1].png")) == ["a[1].png"]


@pytest.mark.usefixtures("here")
def test_a_file_is_taken_once_however_often_it_is_named() -> None:
    assert names(find("b.jpg", "./b.jpg", "*.jpg", ".", os.path.abspath("b.jpg")))[:2] == ["b.jpg", "./a.png"]  # noqa: PTH100


def test_pipes_in_a_folder_are_left_alone_and_dead_links_are_not(here: Path) -> None:
    os.mkfifo(here / "empty" / "pipe.jpg")
    (here / "empty" / "link.jpg").symlink_to("nowhere.jpg")
    (here / "empty" / "round").symlink_to(here / "empty")
    assert names(find("empty")) == ["empty/link.jpg"]


def test_standard_input_is_read_once() -> None:
    reads = []

    def read() -> bytes:
        reads.append(1)
        return b"picture"

    found = find_sources(["-", "-"], read)
    assert found.sources == [Source("-", b"picture")]
    assert len(reads) == 1
    assert found.sources[0].stem == "stdin"
