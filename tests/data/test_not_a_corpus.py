"""What no reader takes: a format, the files of a directory, and what the error says."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from captionist.data import open_corpus
from captionist.errors import DataError
from tests.data.files import add_pictures
from tests.data.test_coco import captions_json
from tests.data.test_flickr30k import HEADER, entry, karpathy

TOKENS, TRAIN, TEST = "Flickr8k.token.txt", "Flickr_8k.trainImages.txt", "Flickr_8k.testImages.txt"
FLICKR30K = "dataset_flickr30k.json"
COCO_TRAIN, COCO = "annotations/captions_train2017.json", "annotations/captions_val2017.json"
PLATE, DOGS = captions_json({9: "9.jpg"}, [(9, "A plate.")]), "a.jpg#0\tA dog .\nb.jpg#0\tA dog .\n"
TWICE = karpathy(entry("a.jpg", "train", "A dog ."), entry("a.jpg", "test", "A dog ."))
NO_JSON = r"dataset_flickr30k\.json: not JSON, or cut short \(.*fetch or unpack it again"
NO_LAYOUT = r"Flickr8k\.token\.txt .*captions\.txt with the header image,caption"
Files = Mapping[str, str | bytes]
OTHER_FILES: list[Files] = [
    {},
    *({"captions.txt": text} for text in ("", "A caption a line\n", "image|caption\na.jpg|A dog .\n")),
]
REFUSED: list[tuple[str, Files, str]] = [
    # a picture in two splits
    ("auto", {"Images/a.jpg": "", "Images/b.jpg": "", TOKENS: DOGS, TRAIN: "a.jpg\nb.jpg\n", TEST: "b.jpg\n"},
     r"b\.jpg \(train and test\)"),
    ("auto", {"Images/a.jpg": "", FLICKR30K: TWICE}, r"dataset_flickr30k\.json.*a\.jpg \(train and test\)"),
    ("auto", {"train2017/9.jpg": "", COCO_TRAIN: PLATE, COCO: PLATE}, r"9\.jpg \(train and dev\)"),
    # nothing that can be used
    ("auto", {"Images/": "", TOKENS: DOGS}, r"no picture with a caption is left.*2 missing_picture.*a\.jpg"),
    ("auto", {"Images/a.jpg": "", TOKENS: ""}, "1 picture_without_captions"),
    ("auto", {"metadata.jsonl": ""}, "no picture with a caption is left"),
    # no folder with pictures
    ("auto", {TOKENS: DOGS}, "Images/, Flicker8k_Dataset/, Flickr8k_Dataset/"),
    ("auto", {"results.csv": HEADER + "a.jpg| 0| A dog .\n"},
     r"no folder with pictures\. Looked for flickr30k_images/"),
    ("auto", {COCO: PLATE}, r"no folder with pictures\. Looked for val2017/"),
    # not the file that it seems
    *(("auto", {"Images/a.jpg": b"", FLICKR30K: content}, NO_JSON)
      for content in (b"", b'{"images": [{"filename": "a.jpg", "spl', b"\xff\xfe\x00", b"[" * 100_000)),
    *(("auto", {FLICKR30K: content}, r"dataset_flickr30k\.json: ")
      for content in ("[]", "7", '{"images": {}}', '{"annotations": []}')),
    ("auto", {"val2017/9.jpg": "", COCO: PLATE[:-20]}, r"captions_val2017\.json: not JSON, or cut short"),
    ("auto", {"val2017/9.jpg": "", COCO: '{"images": []}'},
     r'captions_val2017\.json: .* no lists "images" and "annotations"'),
    # no file at all, or another
    *((format, files, NO_LAYOUT) for format in ("auto", "flickr8k") for files in OTHER_FILES),
    ("auto", {f"{COCO}/": ""}, "not a corpus of a known layout"),
    ("flickr30k", {"results.csv": "image,caption\n"},
     r"not Flickr30k\. Looked for dataset_flickr30k\.json, results\.csv"),
    ("coco", {"captions_val2017.json": PLATE}, r"not COCO's captions\. Looked for annotations/captions_train2017"),
    ("imagefolder", {}, r"Looked for metadata\.jsonl, in the directory or in train/"),
    ("webdataset", {}, r"Looked for shards such as train-000000\.tar"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "files", "said"), REFUSED)
def test_what_is_no_corpus_is_told_why(tmp_path: Path, format: str, files: Files, said: str) -> None:
    for name, content in files.items():
        path = tmp_path / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        elif name.endswith(".jpg"):
            add_pictures(path.parent, [path.name])
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said):
        open_corpus(tmp_path, format)
