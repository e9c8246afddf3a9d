"""Opening a corpus by format, and asking it for a split."""

from pathlib import Path

import pytest

from captionist.data import Corpus, Example, open_corpus
from captionist.errors import DataError


def make_corpus(root: Path) -> None:
    (root / "Images").mkdir()
    (root / "Images" / "a.jpg").write_bytes(b"a reader does not open pictures")
    (root / "captions.txt").write_text("image,caption\na.jpg,A dog .\n")


@pytest.mark.parametrize("format", ["auto", "flickr8k"])
def test_opens_by_name_and_by_recognition(tmp_path: Path, format: str) -> None:
    make_corpus(tmp_path)
    corpus = open_corpus(tmp_path, format)
    assert (corpus.name, corpus.root, corpus.format) == (tmp_path.name, tmp_path, "flickr8k")
    assert [example.id for example in corpus.examples] == ["a.jpg"]


@pytest.mark.parametrize("format", ["vizwiz", "Flickr8k"])
def test_a_format_that_is_not_read_lists_those_that_are(tmp_path: Path, format: str) -> None:
    make_corpus(tmp_path)
    known = "auto, flickr8k, flickr30k, coco, imagefolder, webdataset"
    with pytest.raises(DataError, match=f"'{format}' are not read; choose from {known}"):
        open_corpus(tmp_path, format)


def test_a_root_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for root in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(DataError, match="no such directory"):
            open_corpus(root)


def test_an_empty_split_lists_those_that_exist() -> None:
    examples = tuple(
        Example(f"{i}.jpg", Path(f"{i}.jpg"), ("a dog",), split) for i, split in enumerate(["train", "train", "dev"])
    )
    corpus = Corpus("tiny", Path("tiny"), "flickr8k", "by hand", examples, ())
    assert [example.id for example in corpus.split("train")] == ["0.jpg", "1.jpg"]
    with pytest.raises(DataError, match=r"split 'test'; this corpus has train \(2\), dev \(1\)\.$"):
        corpus.split("test")
    with pytest.raises(DataError, match='The validation split is called "dev" here'):
        corpus.split("val")
