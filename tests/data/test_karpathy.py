"""Which corpus Karpathy's files belong to, wherever they lie, and that their split is used."""

from pathlib import Path

import pytest

from captionist.data import open_corpus
from tests.data.files import add_pictures, splits
from tests.data.test_coco import write_corpus
from tests.data.test_flickr30k import entry, write_karpathy

NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
SPLITS = {"a.jpg": "train", "b.jpg": "dev", "c.jpg": "test"}
CSV = "image,caption\n" + "".join(f"{name},Kaggle's caption .\n" for name in NAMES)


def write_flickr8k(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    theirs = {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}
    write_karpathy(path, *(entry(name, split, "Karpathy's caption .") for name, split in theirs.items()))


def write_all_three(folder: Path) -> None:
    """As `unzip caption_datasets.zip` does."""
    write_flickr8k(folder / "dataset_flickr8k.json")
    write_karpathy(folder / "dataset_flickr30k.json", entry("30.jpg", "test", "A cat ."))
    write_karpathy(folder / "dataset_coco.json", entry("COCO_val2014_1.jpg", "test", "A bird ."))


@pytest.mark.parametrize("folder", [".", "annotations", "caption_datasets"])
def test_flickr8k_by_karpathys_file_alone(tmp_path: Path, folder: str) -> None:
    add_pictures(tmp_path / "Images", NAMES[:3])
    write_flickr8k(tmp_path / folder / "dataset_flickr8k.json")
    corpus = open_corpus(tmp_path)
    assert (corpus.format, corpus.problems, splits(corpus)) == ("flickr8k", (), SPLITS)
    assert corpus.examples[0].references == ("Karpathy's caption .",)
    assert corpus.split_origin.startswith("Karpathy's, in ")


@pytest.mark.parametrize("folder", [".", "caption_datasets"])
def test_beside_the_kaggle_file_karpathys_split_counts(tmp_path: Path, folder: str) -> None:
    """Else scores would be on a split of our own."""
    add_pictures(tmp_path / "Images", NAMES)
    (tmp_path / "captions.txt").write_text(CSV)
    write_all_three(tmp_path / folder)
    corpus = open_corpus(tmp_path)
    assert (corpus.format, corpus.problems, splits(corpus)) == ("flickr8k", (), SPLITS | {"d.jpg": "none"})
    assert {example.references for example in corpus.examples} == {("Kaggle's caption .",)}
    assert "dataset_flickr8k.json" in corpus.split_origin


def test_the_split_files_count_before_karpathys(tmp_path: Path) -> None:
    add_pictures(tmp_path / "Images", NAMES[:3])
    write_flickr8k(tmp_path / "dataset_flickr8k.json")
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("c.jpg\n")
    corpus = open_corpus(tmp_path)
    assert splits(corpus) == {"a.jpg": "none", "b.jpg": "none", "c.jpg": "train"}
    assert corpus.split_origin == "the corpus's split files"


@pytest.mark.parametrize("folder", [".", "caption_datasets"])
@pytest.mark.parametrize(
    ("pictures", "format", "expected"),
    [
        ("Images/a.jpg", "flickr8k", {"a.jpg": "train"}),
        ("Flicker8k_Dataset/a.jpg", "flickr8k", {"a.jpg": "train"}),
        ("Images/30.jpg", "flickr30k", {"30.jpg": "test"}),
        ("flickr30k-images/30.jpg", "flickr30k", {"30.jpg": "test"}),
        ("val2014/COCO_val2014_1.jpg", "coco", {"COCO_val2014_1.jpg": "test"}),
    ],
)
def test_of_all_three_files_that_counts_whose_pictures_are_there(
    tmp_path: Path, folder: str, pictures: str, format: str, expected: dict[str, str]
) -> None:
    write_all_three(tmp_path / folder)
    add_pictures((tmp_path / pictures).parent, [Path(pictures).name])
    corpus = open_corpus(tmp_path)
    assert (corpus.format, splits(corpus)) == (format, expected)


def test_karpathys_file_is_no_obstacle_to_coco_of_2017(tmp_path: Path) -> None:
    """Its pictures are those of 2014, under other names."""
    write_corpus(tmp_path)
    write_all_three(tmp_path)
    corpus = open_corpus(tmp_path)
    assert corpus.format == "coco"
    assert set(splits(corpus).values()) == {"train", "dev"}
