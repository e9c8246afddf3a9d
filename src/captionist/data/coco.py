"""Reads COCO's captions (Chen et al. 2015, arXiv:1504.00325) as they were published and with Karpathy's split.

As published: `annotations/captions_train2017.json` and `captions_val2017.json` with the pictures in `train2017/` and
`val2017/`, or the same for 2014. The train file is split "train", the val file split "dev"; COCO does not publish its
test captions, so there is no "test". One of the two files is enough. The years hold the same pictures, divided
differently, so only one of them is read: 2017, if its captions and pictures exist.

Karpathy's: `dataset_coco.json`, with the pictures of 2014 in `train2014/` and `val2014/` (113,287 / 5,000 / 5,000). It
takes precedence if it and these pictures exist. Pictures are not opened.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from captionist import paths
from captionist.data import karpathy
from captionist.data.building import build, files_in, gather, one_split_each, pictures_in
from captionist.data.records import Corpus, Problem
from captionist.data.textfiles import read_json
from captionist.errors import DataError

KARPATHY_FOLDERS = ("train2014", "val2014")
YEARS = ("2017", "2014")
SPLITS = {"train": "train", "val": "dev"}
"""COCO's names and ours."""
LOOKS_FOR = "annotations/captions_train2017.json or captions_val2017.json (or 2014), or dataset_coco.json"

_KEYS = frozenset({"images", "annotations", "id", "file_name", "image_id", "caption"})


def recognises(root: Path) -> bool:
    """Whether the directory holds one of the caption files."""
    return karpathy.is_of(root, karpathy.COCO, KARPATHY_FOLDERS) or any(_caption_files(root, year) for year in YEARS)


def read(root: Path) -> Corpus:
    """Read the corpus in `root`; whatever is left out is listed in `Corpus.problems`.

    Raises:
        DataError: a caption file or picture folder is missing or unreadable, a picture is in two splits, or no
            example is left.
    """
    problems: list[Problem] = []
    by_karpathy = karpathy.find(root, karpathy.COCO)
    if by_karpathy and _has_his_pictures(root):
        captions, splits = karpathy.read(root / by_karpathy, by_karpathy, problems)
        pictures = pictures_in(root, KARPATHY_FOLDERS)
        return build(root, "coco", f"Karpathy's, in {by_karpathy}", captions, splits, pictures, problems)

    files = _files_of_one_year(root)
    parts = [_read_part(root / label, label, problems) for label in files.values()]
    pairs = ((name, split) for split, (names, _) in zip(files, parts, strict=True) for name in names.values())
    captions = gather(chain.from_iterable(rows for _, rows in parts), problems)
    # Only these files' folders: other pictures do not lack captions, since nobody asked for them.
    pictures = pictures_in(root, (_folder(label) for label in files.values()))
    # Both folders may have a picture of the same name.
    for label, (names, _) in zip(files.values(), parts, strict=True):
        own = files_in(root / _folder(label)) if paths.isdir(root / _folder(label)) else {}
        pictures |= {name: own[name] for name in names.values() if name in own}
    origin = ", ".join(f"{split} is {label}" for split, label in files.items())
    return build(root, "coco", origin, captions, one_split_each(root, pairs), pictures, problems)


def _has_his_pictures(root: Path) -> bool:
    """Whether the pictures of Karpathy's file exist, or at least no other caption files do."""
    published = any(_caption_files(root, year) for year in YEARS)
    return not published or any(paths.isdir(root / folder) for folder in KARPATHY_FOLDERS)


def _caption_files(root: Path, year: str) -> dict[str, str]:
    """The caption files that exist for that year, by our split, as paths below the root."""
    files = {split: f"annotations/captions_{name}{year}.json" for name, split in SPLITS.items()}
    return {split: label for split, label in files.items() if paths.isfile(root / label)}


def _folder(label: str) -> str:
    """`annotations/captions_train2017.json` -> `train2017`, the folder of its pictures."""
    return Path(label).stem.removeprefix("captions_")


def _files_of_one_year(root: Path) -> dict[str, str]:
    years = [files for year in YEARS if (files := _caption_files(root, year))]
    if not years:
        raise DataError(f"{root}: not COCO's captions. Looked for {LOOKS_FOR}.")
    return next((files for files in years if any(paths.isdir(root / _folder(f)) for f in files.values())), years[0])


def _read_part(
    path: Path, label: str, problems: list[Problem]
) -> tuple[dict[int, str], Iterator[tuple[str, str, str]]]:
    """The file name of each picture by COCO's number, and (place, file name, caption) for each annotation."""
    content = read_json(path, _KEYS)
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise DataError(f'{path}: not COCO\'s captions: it has no lists "images" and "annotations".')
    names: dict[int, str] = {}
    shared: dict[int, str] = {}
    for index, image in enumerate(images):
        place = f"{label}:images[{index}]"
        number, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if not isinstance(number, int) or not isinstance(name, str):
            problems.append(Problem("short_row", place, "no id or no file_name"))
        elif names.setdefault(number, name) != name:
            shared[number] = f"{number} is the id of {names[number]} and of {name}"
            problems.append(Problem("shared_id", place, f"{shared[number]}: give each picture its own"))
    for number in shared:
        del names[number]
    return names, _rows(annotations, names, shared, label, problems)


def _rows(
    annotations: list[Any], names: dict[int, str], shared: dict[int, str], label: str, problems: list[Problem]
) -> Iterator[tuple[str, str, str]]:
    for index, annotation in enumerate(annotations):
        place = f"{label}:annotations[{index}]"
        entry = annotation if isinstance(annotation, dict) else {}
        number, caption = entry.get("image_id"), entry.get("caption")
        if not isinstance(number, int) or not isinstance(caption, str):
            problems.append(Problem("short_row", place, "no image_id or no caption"))
        elif number in shared:
            problems.append(Problem("shared_id", place, f"{shared[number]}: it is unclear whose caption it is"))
        elif number not in names:
            problems.append(Problem("short_row", place, f"of picture {number}, which the file does not list"))
        else:
            yield place, names[number], caption
