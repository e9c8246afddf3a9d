"""Karpathy's JSON files for Flickr8k, Flickr30k and COCO (Karpathy and Li 2015, CVPR): captions, and papers' splits."""

from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from captionist import paths
from captionist.data.building import gather, one_split_each
from captionist.data.records import Problem
from captionist.data.textfiles import read_json
from captionist.errors import DataError

SPLITS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}
"""His names and ours. "restval" is what was left of COCO's validation pictures; everybody trains on it."""

FLICKR8K, FLICKR30K, COCO = ("dataset_flickr8k.json", "dataset_flickr30k.json", "dataset_coco.json")
FOLDERS = (".", "annotations", "caption_datasets")
"""Where his files are looked for; the last is the name of his archive of all three."""

_KEYS = frozenset({"images", "filename", "split", "sentences", "raw"})


def find(root: Path, name: str) -> str | None:
    """The path of his file of that name from the root."""
    return next((str(label) for folder in FOLDERS if paths.isfile(root / (label := PurePosixPath(folder, name)))), None)


def is_of(root: Path, name: str, folders: Collection[str]) -> bool:
    """Whether his file of that name exists and tells which corpus this is: if his other files exist as well, as in his
    archive, one of these folders of pictures must exist.
    """
    others = {FLICKR8K, FLICKR30K, COCO} - {name}
    return find(root, name) is not None and (
        not any(find(root, other) for other in others) or any(paths.isdir(root / folder) for folder in folders)
    )


def read(path: Path, label: str, problems: list[Problem]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Every picture's captions and split, by file name.

    An incomplete entry is added to `problems` with its place, such as `dataset_coco.json:images[12]`.

    Raises:
        DataError: the file cannot be read, is not such a JSON file, or has a picture in two splits.
    """
    images = read_json(path, _KEYS).get("images")
    if not isinstance(images, list):
        raise DataError(f'{path}: not one of Karpathy\'s files: no list "images" is in it.')
    entries = list(_entries(images, label, problems))
    splits = one_split_each(path, ((name, split) for _, name, split, _ in entries))
    rows = ((place, name, caption) for place, name, _, captions in entries for caption in captions)
    return gather(rows, problems), splits


def _entries(images: list[Any], label: str, problems: list[Problem]) -> Iterator[tuple[str, str, str, list[str]]]:
    """(place, file name, our split, captions) of each usable entry."""
    for index, image in enumerate(images):
        place = f"{label}:images[{index}]"
        entry = image if isinstance(image, dict) else {}
        name, split, sentences = entry.get("filename"), entry.get("split"), entry.get("sentences")
        if not isinstance(name, str):
            problems.append(Problem("short_row", place, "no filename"))
        elif not isinstance(split, str) or split not in SPLITS:
            problems.append(Problem("short_row", place, f"{name}: its split is none of {', '.join(SPLITS)}"))
        elif not isinstance(sentences, list):
            problems.append(Problem("short_row", place, f"{name}: no sentences"))
        else:
            captions = []
            for sentence in sentences:
                raw = sentence.get("raw") if isinstance(sentence, dict) else None
                captions.append(raw if isinstance(raw, str) else "")  # the empty one is reported with the others
            yield place, name, SPLITS[split], captions
