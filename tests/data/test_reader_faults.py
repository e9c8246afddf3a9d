"""What is wrong with a corpus: every fault is listed, and the rest is read; if nothing can be, an error says why."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from captionist.data import open_corpus
from captionist.errors import DataError
from tests.data.files import FLICKR30K_HEADER, Files, coco, entry, karpathy, metadata, pictures, problems, write_files

PHANTOM = "2258277193_586949ec62.jpg.1"
COCO_TRAIN, COCO = "annotations/captions_train2017.json", "annotations/captions_val2017.json"
LONG = "x" * 5000 + "/y.png"
BROKEN_SENTENCE = entry("good.jpg", "train", "A dog .")
BROKEN_SENTENCE["sentences"] += [{"tokens": []}]
PLAIN = {"good.jpg": ("A dog .",)}
Faults = tuple[Files, set[tuple[str, str]], Mapping[str, tuple[str, ...]]]
FAULTS: dict[str, Faults] = {
    "flickr8k": (
        pictures("Images", "good.jpg", "nosplit.jpg", "uncaptioned.jpg", "mute.jpg") | {
            "Images/empty.jpg": "",
            "Images/Thumbs.db": "x",
            "Flickr8k.token.txt": b"good.jpg#0\tA good dog .\ngood.jpg#1 A dog without a tab .\ngood.jpg#2\t \n"
            b"good.jpg#3\tA caf\xe9 dog .\n\n#4\tA dog without a name .\ngood.jpg#4\tThe caf\xc3\xa9 dog .\n"
            b"good.jpg#5\t . !\nnosplit.jpg#0\tA cat .\nlost.jpg#0\tA bird .\nlost.jpg#1\tThe bird .\n"
            b"../../secret.jpg#0\tA way out .\nempty.jpg#0\tNothing .\n" + f"{PHANTOM}#0\tA phantom .\n".encode(),
            "Flickr_8k.trainImages.txt": b"good.jpg\nunknown.jpg\nmute.jpg\n\xff.jpg\nempty.jpg\n",
        },
        {
            *(("short_row", f"Flickr8k.token.txt:{line}") for line in (2, 3, 6, 8)),
            ("bad_encoding", "Flickr8k.token.txt:4"),
            ("bad_encoding", "Flickr_8k.trainImages.txt:4"),
            *(("missing_picture", name) for name in ("lost.jpg", "../../secret.jpg", PHANTOM)),
            ("empty_picture", "empty.jpg"),
            ("unknown_name", "unknown.jpg"),
            ("unknown_name", "mute.jpg"),
            ("picture_without_captions", "uncaptioned.jpg"),
        },
        {"good.jpg": ("A good dog .", "The caf\u00e9 dog ."), "nosplit.jpg": ("A cat .",)},
    ),
    "flickr8k, Kaggle's": (
        pictures("Images", "good.jpg", "uncaptioned.jpg") | {
            "captions.txt": b"image,caption\ngood.jpg\ngood.jpg,\n,No name .\n"
            b'good.jpg,"An unbalanced mark must not swallow what follows\n'
            b"good.jpg,A dog .\ngood.jpg,\xff\xfe\nlost.jpg,A cat .\n"},
        {*(("short_row", f"captions.txt:{line}") for line in (2, 3, 4, 5)), ("bad_encoding", "captions.txt:7"),
         ("missing_picture", "lost.jpg"), ("picture_without_captions", "uncaptioned.jpg")},
        PLAIN,
    ),
    "Karpathy's": (
        pictures("Images", "good.jpg", "mute.jpg", "nowhere.jpg") | {"dataset_flickr30k.json": karpathy(
            BROKEN_SENTENCE,
            entry("mute.jpg", "test"),
            entry("nowhere.jpg", "extra", "A dog ."),
            {"split": "train", "sentences": []},
            {"filename": "good.jpg", "split": "train"},
            "good.jpg",
            entry("../secret.jpg", "train", "A way out ."))},
        {*(("short_row", f"dataset_flickr30k.json:images[{place}]") for place in (0, 2, 3, 4, 5)),
         ("missing_picture", "../secret.jpg"), ("unknown_name", "mute.jpg"),
         ("picture_without_captions", "nowhere.jpg")},
        PLAIN,
    ),
    "flickr30k, Kaggle's": (
        pictures("Images", "good.jpg") | {"results.csv": FLICKR30K_HEADER.encode() + b"good.jpg| 0| A dog .\n"
            b"good.jpg| 4   A dog runs across the grass .\n"  # as it stands in Kaggle's file
            b"good.jpg| 1| . !\n| 2| No name .\ngood.jpg| 3| A caf\xe9 .\n"},
        {*(("short_row", f"results.csv:{line}") for line in (3, 4, 5)), ("bad_encoding", "results.csv:6")},
        PLAIN,
    ),
    "coco": (
        pictures("val2017", "good.jpg", "uncaptioned.jpg", "mute.jpg") | {COCO: coco(
            {1: "good.jpg", 3: "mute.jpg", 4: "lost.jpg", 5: f"../{COCO}"},
            [(1, "A dog ."), (1, " "), (4, "A bird ."), (5, "A way out ."), (77, "Of nobody .")],
            [{"id": "9", "file_name": "x.jpg"}, {"id": 9}, None],
            [{"image_id": 1}, {"image_id": [1], "caption": "A dog ."}, "A dog ."])},
        {*(("short_row", f"{COCO}:images[{place}]") for place in (4, 5, 6)),
         *(("short_row", f"{COCO}:annotations[{place}]") for place in (1, 4, 5, 6, 7)),
         ("missing_picture", "lost.jpg"), ("missing_picture", f"../{COCO}"), ("unknown_name", "mute.jpg"),
         ("picture_without_captions", "uncaptioned.jpg")},
        PLAIN,
    ),
    # As in files that were joined. The same picture twice is one picture; another file has its own ids.
    "coco, an id of several pictures": (
        pictures("train2017", "9.jpg", "good.jpg", "other.jpg") | pictures("val2017", "139.jpg") | {
            COCO_TRAIN: coco({9: "9.jpg", 25: "good.jpg"}, [(25, "A dog ."), (9, "A plate .")],
                             [{"id": 9, "file_name": "other.jpg"}, {"id": 25, "file_name": "good.jpg"}]),
            COCO: coco({9: "139.jpg"}, [(9, "A room .")])},
        {("shared_id", f"{COCO_TRAIN}:images[2]"), ("shared_id", f"{COCO_TRAIN}:annotations[1]"),
         ("picture_without_captions", "9.jpg"), ("picture_without_captions", "other.jpg")},
        PLAIN | {"139.jpg": ("A room .",)},
    ),
    "imagefolder": (
        {"good.jpg": None, "empty.png": "", "uncaptioned.png": None, "metadata.jsonl": b"\n".join((
            b'{"file_name": "good.jpg", "text": "A dog ."}',
            b'{"file_name": "good.jpg", "te',
            b'{"text": "No name."}',
            b'{"file_name": "good.jpg"}',
            b'{"file_name": "good.jpg", "text": 7}',
            b'{"file_name": "good.jpg", "captions": []}',
            b'{"file_name": "good.jpg", "caption": "..."}',
            b'{"file_name": "good.jpg", "caption": "A dog.", "split": "extra"}',
            b'["good.jpg", "A dog."]',
            b'{"file_name": "good.jpg", "text": "A caf\xe9."}',
            b"[" * 100_000,
            b'{"file_name": "lost.png", "text": "A cat."}',
            b'{"file_name": "../secret.png", "text": "A way out."}',
            b'{"file_name": "/etc/passwd", "text": "A way out."}',
            json.dumps({"file_name": LONG, "text": "A long name."}).encode(),
            b'{"file_name": "nul\\u0000/b.png", "text": "A nul."}',
            b'{"file_name": "empty.png", "text": "A bird."}'))},
        {*(("short_row", f"metadata.jsonl:{line}") for line in (2, 3, 4, 5, 6, 7, 8, 9, 11)),
         ("bad_encoding", "metadata.jsonl:10"),
         *(("missing_picture", name) for name in ("lost.png", "../secret.png", "/etc/passwd", LONG, "nul\0/b.png")),
         ("empty_picture", "empty.png"), ("picture_without_captions", "uncaptioned.png")},
        PLAIN,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "listed", "left"), FAULTS.values(), ids=FAULTS)
def test_every_fault_is_listed(
    tmp_path: Path, files: Files, listed: set[tuple[str, str]], left: Mapping[str, tuple[str, ...]]
) -> None:
    write_files(tmp_path, pictures(".", "secret.png"))
    write_files(tmp_path / "corpus", files)
    corpus = open_corpus(tmp_path / "corpus")
    assert problems(corpus) == listed
    assert {example.id: example.references for example in corpus.examples} == left


def test_a_link_that_goes_round_is_one_missing_picture(tmp_path: Path) -> None:
    write_files(tmp_path, pictures("Images", "good.jpg") | {"captions.txt": "image,caption\ngood.jpg,A\nloop.jpg,B\n"})
    (tmp_path / "Images" / "loop.jpg").symlink_to("loop.jpg")
    (problem,) = open_corpus(tmp_path).problems
    assert (problem.kind, problem.subject, problem.detail[:16]) == ("missing_picture", "loop.jpg", "captions lost: 1")


TOKENS, TRAIN, TEST = "Flickr8k.token.txt", "Flickr_8k.trainImages.txt", "Flickr_8k.testImages.txt"
FLICKR30K = "dataset_flickr30k.json"
PLATE, DOGS = coco({9: "9.jpg"}, [(9, "A plate.")]), "a.jpg#0\tA dog .\nb.jpg#0\tA dog .\n"
TWICE = karpathy(entry("a.jpg", "train", "A dog ."), entry("a.jpg", "test", "A dog ."))
NO_JSON = r"dataset_flickr30k\.json: not JSON, or cut short \(.*fetch or unpack it again"
NO_LAYOUT = r"Flickr8k\.token\.txt .*captions\.txt with the header image,caption"
OTHER_FILES: list[Files] = [
    {},
    *({"captions.txt": text} for text in ("", "A caption a line\n", "image|caption\na.jpg|A dog .\n")),
]
REFUSED: list[tuple[str, Files, str]] = [
    # a picture in two splits
    ("auto", pictures("Images", "a.jpg", "b.jpg") | {TOKENS: DOGS, TRAIN: "a.jpg\nb.jpg\n", TEST: "b.jpg\n"},
     r"b\.jpg \(train and test\)"),
    ("auto", {"Images/a.jpg": None, FLICKR30K: TWICE}, r"dataset_flickr30k\.json.*a\.jpg \(train and test\)"),
    ("auto", {"train2017/9.jpg": None, COCO_TRAIN: PLATE, COCO: PLATE}, r"9\.jpg \(train and dev\)"),
    ("auto", {"test/f.png": None,
              "metadata.jsonl": metadata({"file_name": "test/f.png", "text": "A dog.", "split": "train"})},
     r"test/f\.png \(test and train\)"),
    # nothing that can be used
    ("auto", {"Images/": "", TOKENS: DOGS}, r"no picture with a caption is left.*2 missing_picture.*a\.jpg"),
    ("auto", {"Images/a.jpg": None, TOKENS: ""}, "1 picture_without_captions"),
    ("auto", {"metadata.jsonl": ""}, "no picture with a caption is left"),
    # no folder with pictures
    ("auto", {TOKENS: DOGS}, "Images/, Flicker8k_Dataset/, Flickr8k_Dataset/"),
    ("auto", {"results.csv": FLICKR30K_HEADER + "a.jpg| 0| A dog .\n"},
     r"no folder with pictures\. Looked for flickr30k_images/"),
    ("auto", {COCO: PLATE}, r"no folder with pictures\. Looked for val2017/"),
    # not the file that it seems
    *(("auto", {"Images/a.jpg": None, FLICKR30K: content}, NO_JSON)
      for content in (b"", b'{"images": [{"filename": "a.jpg", "spl', b"\xff\xfe\x00", b"[" * 100_000)),
    *(("auto", {FLICKR30K: content}, r"dataset_flickr30k\.json: ")
      for content in ("[]", "7", '{"images": {}}', '{"annotations": []}')),
    ("auto", {"val2017/9.jpg": None, COCO: PLATE[:-20]}, r"captions_val2017\.json: not JSON, or cut short"),
    ("auto", {"val2017/9.jpg": None, COCO: '{"images": []}'},
     r'captions_val2017\.json: .* no lists "images" and "annotations"'),
    # no file at all, or another
    *((format, files, NO_LAYOUT) for format in ("auto", "flickr8k") for files in OTHER_FILES),
    ("auto", {f"{COCO}/": ""}, "not a corpus of a known layout"),
    ("flickr30k", {"results.csv": "image,caption\n"},
     r"not Flickr30k\. Looked for dataset_flickr30k\.json, results\.csv"),
    ("coco", {"captions_val2017.json": PLATE}, r"not COCO's captions\. Looked for annotations/captions_train2017"),
    ("imagefolder", {}, r"Looked for metadata\.jsonl, in the directory or in train/"),
    ("webdataset", {}, r"Looked for shards such as train-000000\.tar"),
    ("Flickr8k", {}, "'Flickr8k' are not read; choose from auto, flickr8k, flickr30k, coco, imagefolder, webdataset"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "files", "said"), REFUSED)
def test_what_is_no_corpus_is_told_why(tmp_path: Path, format: str, files: Files, said: str) -> None:
    write_files(tmp_path, files)
    with pytest.raises(DataError, match=said):
        open_corpus(tmp_path, format)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_root_that_is_no_directory_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match="no such directory"):
        open_corpus(tmp_path / name)
