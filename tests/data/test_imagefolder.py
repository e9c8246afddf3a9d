"""Folders with metadata.jsonl, whole and with every kind of fault."""

import json
from pathlib import Path
from typing import Any

import pytest

from captionist.data import open_corpus
from captionist.errors import DataError
from tests.data.files import add_pictures, problems, splits


def write_metadata(folder: Path, *entries: Any) -> None:
    (folder / "metadata.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_one_file_and_a_split_by_name(tmp_path: Path) -> None:
    add_pictures(tmp_path, ["a.png", "more/b.png", "c.png"])
    write_metadata(
        tmp_path,
        {"file_name": "a.png", "text": "A dog.", "licence": "CC0"},
        {"file_name": "./more/b.png", "caption": "A cat."},
        {"file_name": "c.png", "captions": ["A bird.", "The bird."]},
    )
    corpus = open_corpus(tmp_path)
    assert (corpus.format, corpus.problems) == ("imagefolder", ())
    assert [(example.id, example.references) for example in corpus.examples] == [
        ("a.png", ("A dog.",)),
        ("c.png", ("A bird.", "The bird.")),
        ("more/b.png", ("A cat.",)),
    ]
    assert corpus.examples[2].image == tmp_path / "more" / "b.png"
    assert "hash" in corpus.split_origin


def test_a_split_that_a_line_names_counts(tmp_path: Path) -> None:
    """It is the published one, as in exports of tables; a split by name would train on its test pictures."""
    add_pictures(tmp_path, [f"{name}.png" for name in "abcde"])
    told = ("train", "Validation", "test", None, "extra")
    write_metadata(
        tmp_path,
        *({"file_name": f"{n}.png", "text": "A dog.", "split": split} for n, split in zip("abcde", told, strict=True)),
        {"file_name": "a.png", "text": "The dog.", "split": "train"},
    )
    corpus = open_corpus(tmp_path)
    assert splits(corpus) == {"a.png": "train", "b.png": "dev", "c.png": "test", "d.png": "none"}
    assert problems(corpus) == {("short_row", "metadata.jsonl:5"), ("picture_without_captions", "e.png")}
    assert corpus.split_origin == "the key split in metadata.jsonl"
    add_pictures(tmp_path / "test", ["f.png"])
    write_metadata(tmp_path, {"file_name": "test/f.png", "text": "A dog.", "split": "train"})
    with pytest.raises(DataError, match=r"test/f\.png \(test and train\)"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev"])
@pytest.mark.parametrize("one_file", [True, False])
def test_split_by_folder(tmp_path: Path, validation: str, one_file: bool) -> None:
    for split in ("train", validation, "test"):
        add_pictures(tmp_path / split, ["1.png"])
        if not one_file:
            write_metadata(tmp_path / split, {"file_name": "1.png", "text": f"A {split} dog."})
    if one_file:
        entries = ({"file_name": f"{split}/1.png", "text": "A dog."} for split in ("train", validation, "test"))
        write_metadata(tmp_path, *entries)
    corpus = open_corpus(tmp_path)
    assert splits(corpus) == {"train/1.png": "train", f"{validation}/1.png": "dev", "test/1.png": "test"}
    assert corpus.problems == ()


def test_a_picture_outside_the_split_folders_is_in_none(tmp_path: Path) -> None:
    add_pictures(tmp_path, ["train/1.png", "extra.png"])
    names = ("train/1.png", "extra.png")
    write_metadata(tmp_path, *({"file_name": name, "text": "A dog."} for name in names))
    assert splits(open_corpus(tmp_path)) == {"extra.png": "none", "train/1.png": "train"}


def test_every_fault_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    add_pictures(root, ["a.png", "empty.png", "uncaptioned.png"])
    add_pictures(tmp_path, ["secret.png"])
    (root / "empty.png").write_bytes(b"")
    (root / "loop.png").symlink_to("loop.png")
    outside = str(tmp_path / "secret.png")
    long = "x" * 5000 + "/y.png"
    rows = [
        b'{"file_name": "a.png", "text": "A dog."}',
        b'{"file_name": "a.png", "te',
        b'{"text": "No name."}',
        b'{"file_name": "a.png"}',
        b'{"file_name": "a.png", "text": 7}',
        b'{"file_name": "a.png", "captions": []}',
        b'{"file_name": "a.png", "caption": "..."}',
        b'["a.png", "A dog."]',
        b'{"file_name": "a.png", "text": "A caf\xe9."}',
        b"[" * 100_000,
        b'{"file_name": "lost.png", "text": "A cat."}',
        b'{"file_name": "../secret.png", "text": "A way out."}',
        json.dumps({"file_name": outside, "text": "A way out."}).encode(),
        json.dumps({"file_name": long, "text": "A long name."}).encode(),
        b'{"file_name": "nul\\u0000/b.png", "text": "A nul."}',
        b'{"file_name": "empty.png", "text": "A bird."}',
        b'{"file_name": "loop.png", "text": "A bird."}',
    ]
    (root / "metadata.jsonl").write_bytes(b"\n".join(rows))
    corpus = open_corpus(root)
    assert problems(corpus) == {
        *(("short_row", f"metadata.jsonl:{line}") for line in (2, 3, 4, 5, 6, 7, 8, 10)),
        ("bad_encoding", "metadata.jsonl:9"),
        *(("missing_picture", name) for name in ("lost.png", "../secret.png", outside, long, "nul\0/b.png")),
        ("missing_picture", "loop.png"),
        ("empty_picture", "empty.png"),
        ("picture_without_captions", "uncaptioned.png"),
    }
    assert [(example.id, example.references) for example in corpus.examples] == [("a.png", ("A dog.",))]


def test_captions_that_no_person_wrote_have_weights(tmp_path: Path) -> None:
    add_pictures(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    write_metadata(
        tmp_path,
        {"file_name": "a.png", "captions": ["A dog.", " A cat. "], "weights": [0.5, 2]},
        {"file_name": "b.png", "text": "A bird."},
        {"file_name": "c.png", "text": "A fish.", "weights": [0.5, 0.5]},
        {"file_name": "d.png", "text": "A horse.", "weights": ["much"]},
    )
    corpus = open_corpus(tmp_path)
    assert [(example.id, example.weights) for example in corpus.examples] == [("a.png", (0.5, 2.0)), ("b.png", (1.0,))]
    assert [problem.kind for problem in corpus.problems].count("short_row") == 2
