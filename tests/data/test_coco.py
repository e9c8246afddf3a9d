"""COCO's captions as published and with Karpathy's split, whole and with every kind of fault."""

import json
from pathlib import Path
from typing import Any

import pytest

from captionist.data import open_corpus
from tests.data.files import add_pictures, problems, splits
from tests.data.test_flickr30k import entry, write_karpathy


def captions_json(images: dict[int, str], captions: list[tuple[int, str]]) -> str:
    content = {
        "info": {"year": 2017},
        "images": [{"license": 3, "id": number, "file_name": name, "height": 48} for number, name in images.items()],
        "licenses": [],
        "annotations": [{"image_id": n, "id": i, "caption": text} for i, (n, text) in enumerate(captions)],
    }
    return json.dumps(content)


def write_captions(root: Path, part: str, images: dict[int, str], captions: list[tuple[int, str]]) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"captions_{part}.json").write_text(captions_json(images, captions))


def write_corpus(root: Path, year: str = "2017") -> None:
    add_pictures(root / f"train{year}", ["000000000009.jpg", "000000000025.jpg"])
    add_pictures(root / f"val{year}", ["000000000139.jpg"])
    images = {9: "000000000009.jpg", 25: "000000000025.jpg"}
    captions = [(25, "A giraffe."), (9, "A plate."), (25, "Two giraffes.\n")]
    write_captions(root, f"train{year}", images, captions)
    write_captions(root, f"val{year}", {139: "000000000139.jpg"}, [(139, "A room.")])


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_as_published(tmp_path: Path, year: str) -> None:
    write_corpus(tmp_path, year)
    corpus = open_corpus(tmp_path)
    assert (corpus.format, corpus.problems) == ("coco", ())
    assert [(example.split, example.references) for example in corpus.examples] == [
        ("train", ("A plate.",)),
        ("train", ("A giraffe.", "Two giraffes.")),
        ("dev", ("A room.",)),
    ]
    assert corpus.examples[2].image == tmp_path / f"val{year}" / "000000000139.jpg"
    assert f"dev is annotations/captions_val{year}.json" in corpus.split_origin


def test_one_of_the_two_files_is_enough(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").unlink()
    corpus = open_corpus(tmp_path)
    assert (splits(corpus), corpus.problems) == ({"000000000139.jpg": "dev"}, ())


def test_of_two_years_that_is_read_whose_pictures_are_there(tmp_path: Path) -> None:
    write_corpus(tmp_path, "2014")
    write_captions(tmp_path, "val2017", {1: "1.jpg"}, [(1, "A room.")])
    assert "2014" in open_corpus(tmp_path).split_origin
    add_pictures(tmp_path / "val2017", ["1.jpg"])
    assert splits(open_corpus(tmp_path)) == {"1.jpg": "dev"}


def test_every_fault_is_listed(tmp_path: Path) -> None:
    add_pictures(tmp_path / "val2017", ["good.jpg", "uncaptioned.jpg", "empty.jpg", "mute.jpg"])
    (tmp_path / "val2017" / "empty.jpg").write_bytes(b"")
    images = {1: "good.jpg", 2: "empty.jpg", 3: "mute.jpg", 4: "lost.jpg", 5: "../annotations/captions_val2017.json"}
    captions = [(1, "A dog."), (1, " "), (2, "A cat."), (4, "A bird."), (5, "A way out."), (77, "Of nobody.")]
    write_captions(tmp_path, "val2017", images, captions)
    path = tmp_path / "annotations" / "captions_val2017.json"
    content: dict[str, list[Any]] = json.loads(path.read_text())
    content["images"] += [{"id": "9", "file_name": "x.jpg"}, {"id": 9}, None]
    content["annotations"] += [{"image_id": 1}, {"image_id": [1], "caption": "A dog."}, "A dog."]
    path.write_text(json.dumps(content))
    corpus = open_corpus(tmp_path)
    label = "annotations/captions_val2017.json"
    assert problems(corpus) == {
        *(("short_row", f"{label}:images[{index}]") for index in (5, 6, 7)),
        *(("short_row", f"{label}:annotations[{index}]") for index in (1, 5, 6, 7, 8)),
        ("missing_picture", "lost.jpg"),
        ("missing_picture", "../annotations/captions_val2017.json"),
        ("empty_picture", "empty.jpg"),
        ("unknown_name", "mute.jpg"),
        ("picture_without_captions", "uncaptioned.jpg"),
    }
    assert [(example.id, example.references) for example in corpus.examples] == [("good.jpg", ("A dog.",))]


def test_an_id_of_several_pictures_gives_no_captions_to_any(tmp_path: Path) -> None:
    """As in files that were joined. The same picture twice is one; another file has ids of its own."""
    write_corpus(tmp_path)
    add_pictures(tmp_path / "train2017", ["other.jpg"])
    path = tmp_path / "annotations" / "captions_train2017.json"
    content: dict[str, list[Any]] = json.loads(path.read_text())
    content["images"] += [{"id": 9, "file_name": "other.jpg"}, content["images"][1]]
    path.write_text(json.dumps(content))
    write_captions(tmp_path, "val2017", {9: "000000000139.jpg"}, [(9, "A room.")])
    corpus = open_corpus(tmp_path)
    assert {example.id: example.references for example in corpus.examples} == {
        "000000000025.jpg": ("A giraffe.", "Two giraffes."),
        "000000000139.jpg": ("A room.",),
    }
    label = "annotations/captions_train2017.json"
    assert problems(corpus) == {
        ("shared_id", f"{label}:images[2]"),
        ("shared_id", f"{label}:annotations[1]"),
        ("picture_without_captions", "000000000009.jpg"),
        ("picture_without_captions", "other.jpg"),
    }


def test_a_picture_is_looked_for_in_its_own_file_s_folder(tmp_path: Path) -> None:
    """Where each split counts from one, pictures without captions have the names of others."""
    write_corpus(tmp_path)
    add_pictures(tmp_path / "train2017", ["000000000139.jpg"])
    corpus = open_corpus(tmp_path)
    assert corpus.examples[2].image == tmp_path / "val2017" / "000000000139.jpg"


@pytest.mark.parametrize("folder", [".", "annotations"])
def test_karpathys_split(tmp_path: Path, folder: str) -> None:
    write_corpus(tmp_path, "2014")
    add_pictures(tmp_path / "val2014", ["COCO_val2014_1.jpg", "COCO_val2014_2.jpg", "COCO_val2014_3.jpg"])
    add_pictures(tmp_path / "train2014", ["COCO_train2014_4.jpg"])
    write_karpathy(
        tmp_path / folder / "dataset_coco.json",
        entry("COCO_val2014_1.jpg", "restval", "A dog."),
        entry("COCO_val2014_2.jpg", "val", "A cat."),
        entry("COCO_val2014_3.jpg", "test", "A bird."),
        entry("COCO_train2014_4.jpg", "train", "A boy."),
    )
    corpus = open_corpus(tmp_path)
    assert splits(corpus) == {
        "COCO_train2014_4.jpg": "train",
        "COCO_val2014_1.jpg": "train",
        "COCO_val2014_2.jpg": "dev",
        "COCO_val2014_3.jpg": "test",
    }
    assert "dataset_coco.json" in corpus.split_origin
