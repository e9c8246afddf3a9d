"""Flickr30k in its three layouts, whole and with every kind of fault."""

import json
from pathlib import Path
from typing import Any

import pytest

from captionist.data import open_corpus
from tests.data.files import add_pictures, problems, splits

HEADER = "image_name| comment_number| comment\n"


def entry(name: str, split: str, *captions: str) -> dict[str, Any]:
    """A picture as Karpathy's files have it."""
    sentences = [{"tokens": text.lower().split(), "raw": text, "imgid": 0, "sentid": 0} for text in captions]
    return {"sentids": [0], "imgid": 0, "sentences": sentences, "split": split, "filename": name}


def karpathy(*images: Any) -> str:
    return json.dumps({"images": images, "dataset": "flickr30k"})


def write_karpathy(path: Path, *images: Any) -> None:
    path.write_text(karpathy(*images))


def test_karpathys_file_gives_captions_and_split(tmp_path: Path) -> None:
    add_pictures(tmp_path / "flickr30k-images", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    write_karpathy(
        tmp_path / "dataset_flickr30k.json",
        entry("b.jpg", "val", "A cat ."),
        entry("a.jpg", "train", "Two dogs, one of them big.", " A caf\u00e9 dog . "),
        entry("c.jpg", "test", "A bird ."),
        entry("d.jpg", "restval", "A boy ."),
    )
    (tmp_path / "results.csv").write_text(HEADER + "a.jpg| 0| Not this one .\n")
    corpus = open_corpus(tmp_path)
    assert (corpus.format, corpus.problems) == ("flickr30k", ())
    assert "dataset_flickr30k.json" in corpus.split_origin
    assert splits(corpus) == {"a.jpg": "train", "b.jpg": "dev", "c.jpg": "test", "d.jpg": "train"}
    assert corpus.examples[0].references == ("Two dogs, one of them big.", "A caf\u00e9 dog .")
    assert corpus.examples[0].image == tmp_path / "flickr30k-images" / "a.jpg"


def test_every_fault_of_karpathys_file_is_listed(tmp_path: Path) -> None:
    add_pictures(tmp_path / "Images", ["good.jpg", "uncaptioned.jpg", "empty.jpg", "mute.jpg", "nowhere.jpg"])
    (tmp_path / "Images" / "empty.jpg").write_bytes(b"")
    broken_sentence = entry("good.jpg", "train", "A dog .")
    broken_sentence["sentences"] += [{"tokens": []}, "text", {"raw": 7}]
    write_karpathy(
        tmp_path / "dataset_flickr30k.json",
        broken_sentence,
        entry("lost.jpg", "train", "A dog ."),
        entry("empty.jpg", "val", "A dog ."),
        entry("mute.jpg", "test"),
        entry("nowhere.jpg", "extra", "A dog ."),
        {"split": "train", "sentences": []},
        {"filename": "good.jpg", "split": "train"},
        "good.jpg",
        entry("../secret.jpg", "train", "A way out ."),
    )
    corpus = open_corpus(tmp_path)
    place = "dataset_flickr30k.json:images"
    assert {(p.kind, p.subject) for p in corpus.problems} == {
        ("short_row", f"{place}[0]"),
        ("short_row", f"{place}[4]"),
        ("short_row", f"{place}[5]"),
        ("short_row", f"{place}[6]"),
        ("short_row", f"{place}[7]"),
        ("missing_picture", "lost.jpg"),
        ("missing_picture", "../secret.jpg"),
        ("empty_picture", "empty.jpg"),
        ("unknown_name", "mute.jpg"),
        ("picture_without_captions", "uncaptioned.jpg"),
        ("picture_without_captions", "nowhere.jpg"),
    }
    assert len(corpus.problems) == 13  # three sentences of images[0]
    assert [(example.id, example.references) for example in corpus.examples] == [("good.jpg", ("A dog .",))]


@pytest.mark.parametrize("folder", ["flickr30k_images", "flickr30k_images/flickr30k_images", "images"])
def test_the_csv_of_kaggle(tmp_path: Path, folder: str) -> None:
    add_pictures(tmp_path / folder, ["a.jpg", "b.jpg"])
    rows = "a.jpg| 0| Two men , one | tall .\r\na.jpg| 1| A man .\r\nb.jpg| 0| A dog .\r\n"
    (tmp_path / "results.csv").write_bytes(b"\xef\xbb\xbf" + HEADER.encode() + rows.encode())
    corpus = open_corpus(tmp_path)
    assert corpus.problems == ()
    assert [example.references for example in corpus.examples] == [("Two men , one | tall .", "A man ."), ("A dog .",)]


def test_every_fault_of_the_csv_is_listed(tmp_path: Path) -> None:
    add_pictures(tmp_path / "flickr30k_images", ["a.jpg", "empty.jpg", "uncaptioned.jpg"])
    (tmp_path / "flickr30k_images" / "empty.jpg").write_bytes(b"")
    (tmp_path / "results.csv").write_bytes(
        HEADER.encode() + b"a.jpg| 0| A dog .\n"
        b"a.jpg| 4   A dog runs across the grass .\n"  # as it stands in Kaggle's file
        b"a.jpg| 1| . !\n"
        b"| 2| No name .\n"
        b"a.jpg| 3| A caf\xe9 .\n"
        b"lost.jpg| 0| A cat .\n"
        b"empty.jpg| 0| A bird .\n"
    )
    corpus = open_corpus(tmp_path)
    assert problems(corpus) == {
        ("short_row", "results.csv:3"),
        ("short_row", "results.csv:4"),
        ("short_row", "results.csv:5"),
        ("bad_encoding", "results.csv:6"),
        ("missing_picture", "lost.jpg"),
        ("empty_picture", "empty.jpg"),
        ("picture_without_captions", "uncaptioned.jpg"),
    }
    assert [example.references for example in corpus.examples] == [("A dog .",)]


def test_the_original_file_and_a_split_by_name(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(60)]
    add_pictures(tmp_path / "flickr30k-images", names)
    (tmp_path / "results_20130124.token").write_text("".join(f"{n}#{i}\tA dog .\n" for n in names for i in range(5)))
    original = open_corpus(tmp_path, "flickr30k")
    assert (original.problems, {len(example.references) for example in original.examples}) == ((), {5})
    assert set(splits(original).values()) == {"train", "dev", "test"}
    (tmp_path / "results.csv").write_text(HEADER + "".join(f"{name}| 0| A cat .\n" for name in names))
    assert splits(open_corpus(tmp_path)) == splits(original)
