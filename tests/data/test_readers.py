"""Corpora in every layout that is read: what is in them, and where their splits come from."""

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from captionist.data import Corpus, Example, open_corpus
from captionist.errors import DataError
from tests.data.files import (
    FLICKR30K_HEADER,
    Files,
    coco,
    entry,
    karpathy,
    metadata,
    pictures,
    splits,
    tokens,
    write_files,
)

ABCD = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
DOGS = ("A dog number 0 .", "A dog number 1 .")
BOM = "\ufeff"
SPLIT_FILES = "the corpus's split files"
HASH = "80/10/10 by a hash of the file name"
KAGGLE = "image,caption\n" + "".join(f"{name},Kaggle's caption .\n" for name in ABCD)


def original(folder: str, text: str, end: str = "\n") -> dict[str, str | bytes | None]:
    """Flickr8k as it came out."""
    files = {
        "Flickr8k.token.txt": tokens("b.jpg", "a.jpg", "c.jpg", "d.jpg"),
        "Flickr_8k.trainImages.txt": "b.jpg\na.jpg\n",
        "Flickr_8k.devImages.txt": "c.jpg\n",
        "Flickr_8k.testImages.txt": "d.jpg\n",
    }
    return pictures(folder, *ABCD) | {
        f"{text}{name}": (BOM if end != "\n" else "") + content.replace("\n", end) for name, content in files.items()
    }


def published(year: str) -> dict[str, str | bytes | None]:
    """COCO as it came out."""
    images, captions = {9: "9.jpg", 25: "25.jpg"}, [(25, "A giraffe."), (9, "A plate."), (25, "Two giraffes.\n")]
    return {
        **pictures(f"train{year}", "9.jpg", "25.jpg"),
        **pictures(f"val{year}", "139.jpg"),
        f"annotations/captions_train{year}.json": coco(images, captions),
        f"annotations/captions_val{year}.json": coco({139: "139.jpg"}, [(139, "A room.")]),
    }


def archive(folder: str) -> dict[str, str]:
    """All of Karpathy's files, as `unzip caption_datasets.zip` leaves them."""
    theirs = [entry(name, split, "Karpathy's .") for name, split in zip(ABCD, ("train", "val", "test"), strict=False)]
    return {
        f"{folder}dataset_flickr8k.json": karpathy(*theirs),
        f"{folder}dataset_flickr30k.json": karpathy(entry("30.jpg", "restval", " A caf\u00e9 . ")),
        f"{folder}dataset_coco.json": karpathy(entry("COCO_val2014_1.jpg", "restval", "A bird .")),
    }


HIS = {"a.jpg": ("train", "Karpathy's ."), "b.jpg": ("dev", "Karpathy's ."), "c.jpg": ("test", "Karpathy's .")}
ORIGINAL = {name: (split, *DOGS) for name, split in zip(ABCD, ("train", "train", "dev", "test"), strict=True)}
PUBLISHED = {
    "25.jpg": ("train", "A giraffe.", "Two giraffes."), "9.jpg": ("train", "A plate."), "139.jpg": ("dev", "A room."),
}  # fmt: skip
FLICKR30K = {"a.jpg": "Two men , one | tall .", "b.jpg": "A dog ."}
FOLDERS = ("validation", "valid", "val", "dev")
Layout = tuple[Files, str, str, Mapping[str, tuple[str, ...]]]
LAYOUTS: dict[str, Layout] = {
    **{f"flickr8k, {folder} {text}": (original(folder, text), "flickr8k", SPLIT_FILES, ORIGINAL)
       for folder, text in (("Images", ""), ("Flicker8k_Dataset", "Flickr8k_text/"), ("Flickr8k_Dataset", ""))},
    "flickr8k, CRLF": (original("Images", "", "\r\n"), "flickr8k", SPLIT_FILES, ORIGINAL),
    "flickr8k, Kaggle's": (
        pictures("Images", "a.jpg", "1000268201_693b08cb0e.jpg", "1015584366_dfcec3c85a.jpg") | {
            "captions.txt": BOM + 'image,caption\r\na.jpg,"A dog , a cat ."\r\na.jpg,"A "" Kiss "" shirt ."\r\n'
            'a.jpg,A copy that quotes nothing , not even commas .\r\na.jpg,A shirt saying " OK " .\r\n'
            # Scores of a model trained on an earlier version would leak if a picture moved.
            "1000268201_693b08cb0e.jpg,A dog .\r\n1015584366_dfcec3c85a.jpg,A dog .\r\n",
        }, "flickr8k", HASH,
        {"a.jpg": ("train", "A dog , a cat .", 'A " Kiss " shirt .', "A copy that quotes nothing , not even commas .",
                   'A shirt saying " OK " .'),
         "1000268201_693b08cb0e.jpg": ("dev", "A dog ."), "1015584366_dfcec3c85a.jpg": ("test", "A dog .")},
    ),
    "flickr8k, Kaggle's with a split file": (
        pictures("Images", "a.jpg", "b.jpg")
        | {"captions.txt": "image,caption\na.jpg,A .\nb.jpg,B .\n", "Flickr_8k.testImages.txt": "a.jpg\n"},
        "flickr8k", SPLIT_FILES, {"a.jpg": ("test", "A ."), "b.jpg": ("none", "B .")},
    ),
    **{f"flickr8k, Karpathy's alone in {folder or '.'}": (
        pictures("Images", *ABCD[:3]) | {f"{folder}dataset_flickr8k.json": archive("")["dataset_flickr8k.json"]},
        "flickr8k", "Karpathy's, in ", HIS) for folder in ("", "annotations/", "caption_datasets/")},
    **{f"flickr8k, Kaggle's with Karpathy's in {folder or '.'}": (  # else scores would be on a split of our own
        pictures("Images", *ABCD) | {"captions.txt": KAGGLE} | archive(folder), "flickr8k", "dataset_flickr8k.json",
        {name: (HIS[name][0] if name in HIS else "none", "Kaggle's caption .") for name in ABCD},
    ) for folder in ("", "caption_datasets/")},
    "flickr8k, a split file before Karpathy's": (
        pictures("Images", *ABCD[:3]) | archive("") | {"Flickr_8k.trainImages.txt": "c.jpg\n"}, "flickr8k",
        SPLIT_FILES, {name: ("train" if name == "c.jpg" else "none", "Karpathy's .") for name in ABCD[:3]},
    ),
    **{f"Karpathy's archive beside {folder} of {format}": (
        archive("caption_datasets/") | pictures(folder, *found), format, "caption_datasets/dataset_", found)
       for folder, format, found in (
           ("Images", "flickr8k", HIS),
           ("Images", "flickr30k", {"30.jpg": ("train", "A caf\u00e9 .")}),
           ("flickr30k-images", "flickr30k", {"30.jpg": ("train", "A caf\u00e9 .")}),
           ("val2014", "coco", {"COCO_val2014_1.jpg": ("train", "A bird .")}))},
    "flickr30k, Karpathy's before Kaggle's": (
        pictures("Images", "a.jpg", "b.jpg") | {
            "dataset_flickr30k.json": karpathy(entry("b.jpg", "val", "B ."), entry("a.jpg", "test", "A .", "Two .")),
            "results.csv": FLICKR30K_HEADER + "a.jpg| 0| Not this one .\n"},
        "flickr30k", "Karpathy's, in dataset_flickr30k.json",
        {"a.jpg": ("test", "A .", "Two ."), "b.jpg": ("dev", "B .")},
    ),
    **{f"flickr30k, Kaggle's in {folder}": (
        pictures(folder, *FLICKR30K) | {
            "results.csv": BOM + FLICKR30K_HEADER + "".join(f"{n}| 0| {text}\r\n" for n, text in FLICKR30K.items())},
        "flickr30k", HASH, {"a.jpg": ("train", FLICKR30K["a.jpg"]), "b.jpg": ("train", FLICKR30K["b.jpg"])})
       for folder in ("flickr30k_images", "flickr30k_images/flickr30k_images", "images")},
    "flickr30k, the original": (
        pictures("flickr30k-images", "a.jpg") | {"results_20130124.token": tokens("a.jpg")}, "flickr30k", HASH,
        {"a.jpg": ("train", *DOGS)},
    ),
    **{f"coco {year}": (published(year), "coco", f"dev is annotations/captions_val{year}.json", PUBLISHED)
       for year in ("2014", "2017")},
    "coco, Karpathy's is no obstacle to 2017": (published("2017") | archive(""), "coco", "2017", PUBLISHED),
    "coco, the year whose pictures are there": (
        published("2014") | {"annotations/captions_val2017.json": coco({1: "1.jpg"}, [(1, "A room.")])}, "coco", "2014",
        PUBLISHED,
    ),
    "coco, one file": (
        {name: content for name, content in published("2017").items() if "train" not in name}, "coco",
        "dev is", {"139.jpg": ("dev", "A room.")},
    ),
    "imagefolder": (
        {"a.png": None, "more/b.png": None, "c.png": None, "metadata.jsonl": metadata(
            {"file_name": "a.png", "text": "A dog.", "licence": "CC0"},
            {"file_name": "./more/b.png", "caption": "A cat."},
            {"file_name": "c.png", "captions": ["A bird.", "The bird."]})},
        "imagefolder", HASH,
        {"a.png": ("train", "A dog."), "more/b.png": ("train", "A cat."), "c.png": ("train", "A bird.", "The bird.")},
    ),
    "imagefolder, a file a split": (
        {f"{split}/1.png": None for split in ("train", "valid")}
        | {f"{split}/metadata.jsonl": metadata({"file_name": "1.png", "text": split}) for split in ("train", "valid")},
        "imagefolder", "the folder", {"train/1.png": ("train", "train"), "valid/1.png": ("dev", "valid")},
    ),
    "imagefolder, a file for all splits": (
        pictures("train", "1.png") | pictures("test", "1.png") | pictures("more", "1.png")
        | {f"{name}/1.png": None for name in FOLDERS} | {"metadata.jsonl": metadata(
            *({"file_name": f"{name}/1.png", "text": "A dog."} for name in ("train", *FOLDERS, "test", "more")))},
        "imagefolder", "the folder",
        {"train/1.png": ("train", "A dog."), "test/1.png": ("test", "A dog."), "more/1.png": ("none", "A dog."),
         **{f"{name}/1.png": ("dev", "A dog.") for name in FOLDERS}},
    ),
    # The published split, as in exports of tables; a split by name would train on its test pictures.
    "imagefolder, a line names its split": (
        {f"{name}.png": None for name in "abcd"} | {"metadata.jsonl": metadata(
            *({"file_name": f"{name}.png", "text": "A dog.", "split": split}
              for name, split in zip("abcd", ("train", "Validation", "test", None), strict=True)),
            {"file_name": "a.png", "text": "The dog.", "split": "train"})},
        "imagefolder", "the key split in metadata.jsonl",
        {"a.png": ("train", "A dog.", "The dog."), "b.png": ("dev", "A dog."), "c.png": ("test", "A dog."),
         "d.png": ("none", "A dog.")},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "format", "origin", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_read(
    tmp_path: Path, files: Files, format: str, origin: str, expected: Mapping[str, tuple[str, ...]]
) -> None:
    write_files(tmp_path, files)
    corpus = open_corpus(tmp_path)
    assert {example.id: (example.split, *example.references) for example in corpus.examples} == expected
    assert [example.id for example in corpus.examples] == sorted(expected)
    assert (corpus.name, corpus.root, corpus.format) == (tmp_path.name, tmp_path, format)
    assert origin in corpus.split_origin
    assert corpus.problems == ()
    assert {str(example.image) for example in corpus.examples} <= {str(tmp_path / name) for name in files}
    assert open_corpus(tmp_path, format) == corpus


def test_a_picture_is_looked_for_in_its_own_file_s_folder(tmp_path: Path) -> None:
    """If each of COCO's splits counts from one, pictures without captions have the names of others."""
    write_files(tmp_path, published("2017") | pictures("train2017", "139.jpg"))
    (example,) = open_corpus(tmp_path).split("dev")
    assert example.image == tmp_path / "val2017" / "139.jpg"


def hashed(root: Path, rows: list[str]) -> dict[str, str]:
    """Each picture's split if these rows are a corpus without splits."""
    (root / "captions.txt").write_text("image,caption\n" + "".join(f"{name},A dog .\n" for name in rows))
    return splits(open_corpus(root))


def test_a_split_by_hash_depends_on_the_name_alone(tmp_path: Path) -> None:
    everyone = [f"{number}_{number * 7919:x}.jpg" for number in range(400)]
    write_files(tmp_path, pictures("Images", *everyone))
    rows = [name for name in everyone for _ in range(5)]
    whole = hashed(tmp_path, rows)
    assert set(whole) == set(everyone)
    generator = random.Random(0)
    for _ in range(20):
        part = generator.sample(rows, generator.randint(1, len(rows)))  # other pictures, rows and order
        assert hashed(tmp_path, part).items() <= whole.items()
    shares = {split: count / len(whole) for split, count in Counter(whole.values()).items()}
    assert shares == pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1}, abs=0.05)
    (tmp_path / "captions.txt").unlink()
    (tmp_path / "Flickr8k.token.txt").write_text(tokens(*everyone))
    assert splits(open_corpus(tmp_path)) == whole


def test_captions_that_no_person_wrote_have_weights(tmp_path: Path) -> None:
    entries = metadata(
        {"file_name": "a.png", "captions": ["A dog.", " A cat. "], "weights": [0.5, 2]},
        {"file_name": "b.png", "text": "A bird."},
        {"file_name": "c.png", "text": "A fish.", "weights": [0.5, 0.5]},
        {"file_name": "d.png", "text": "A horse.", "weights": ["much"]},
    )
    write_files(tmp_path, {f"{name}.png": None for name in "abcd"} | {"metadata.jsonl": entries})
    corpus = open_corpus(tmp_path)
    assert [(example.id, example.weights) for example in corpus.examples] == [("a.png", (0.5, 2.0)), ("b.png", (1.0,))]
    assert [problem.kind for problem in corpus.problems].count("short_row") == 2


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
