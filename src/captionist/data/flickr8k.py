"""Reads Flickr8k (Hodosh, Young and Hockenmaier 2013, JAIR 47) in the three layouts that people have.

The original: `Flickr8k.token.txt` (`name.jpg#0<TAB>caption`) and `Flickr_8k.{train,dev,test}Images.txt`, in the root or
in `Flickr8k_text/`. Kaggle's: `captions.txt`, a CSV with the header `image,caption`, and no split files. Karpathy's:
`dataset_flickr8k.json`, with captions and split. In all of them, the pictures are in `Images/`, `Flicker8k_Dataset/` or
`Flickr8k_Dataset/`.

Captions and split are found independently, so mixtures work. With a `captions.txt`, split files or Karpathy's file are
used (both are the published split of 6,000 / 1,000 / 1,000), and a `Flickr8k.token.txt` without any split file is split
by picture. If there are several, the first named here counts. Pictures are not opened; a damaged one shows when it is
decoded.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from captionist import paths
from captionist.data import karpathy
from captionist.data.building import build, gather, one_split_each, pictures_in
from captionist.data.records import Corpus, Problem
from captionist.data.splits import HASH_SPLIT_ORIGIN, split_by_name
from captionist.data.textfiles import read_lines, read_tokens
from captionist.errors import DataError

TOKEN_FILE = "Flickr8k.token.txt"
CSV_FILE = "captions.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "dev": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
TEXT_FOLDERS = (".", "Flickr8k_text")
PICTURE_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset")
LOOKS_FOR = (
    f"{karpathy.FLICKR8K}, {TOKEN_FILE} (or {TEXT_FOLDERS[1]}/{TOKEN_FILE}), or {CSV_FILE} with the header "
    "image,caption"
)


def recognises(root: Path) -> bool:
    """Whether the directory holds one of the three caption files."""
    return _find(root, TOKEN_FILE) is not None or _is_kaggle_csv(root) or _is_karpathys(root)


def read(root: Path) -> Corpus:
    """Read the corpus in `root`; whatever is left out is listed in `Corpus.problems`.

    Raises:
        DataError: a caption file or picture folder is missing or unreadable, a picture is in two splits, or no
            example is left.
    """
    problems: list[Problem] = []
    rows = _rows(root, problems)
    captions = None if rows is None else gather(rows, problems)
    splits, origin = _official_splits(root, problems), "the corpus's split files"
    label = karpathy.find(root, karpathy.FLICKR8K)
    if label and (captions is None or splits is None):
        his_captions, his_splits = karpathy.read(root / label, label, problems)
        captions = his_captions if captions is None else captions
        if splits is None:
            splits, origin = his_splits, f"Karpathy's, in {label}"
    if captions is None:
        raise DataError(f"{root}: not Flickr8k. Looked for {LOOKS_FOR}.")
    pictures = pictures_in(root, PICTURE_FOLDERS)
    if splits is None:
        return build(root, "flickr8k", HASH_SPLIT_ORIGIN, captions, split_by_name, pictures, problems)
    return build(root, "flickr8k", origin, captions, splits, pictures, problems)


def _find(root: Path, name: str) -> Path | None:
    """The text file `name`, in the root or in `Flickr8k_text/`."""
    return next((root / folder / name for folder in TEXT_FOLDERS if paths.isfile(root / folder / name)), None)


def _is_kaggle_csv(root: Path) -> bool:
    path = root / CSV_FILE
    return paths.isfile(path) and next((_is_header(line) for _, line in read_lines(path, CSV_FILE, [])), False)


def _is_karpathys(root: Path) -> bool:
    """Flickr30k's pictures may be in a folder of the same name, and his archive has both files."""
    if not karpathy.is_of(root, karpathy.FLICKR8K, PICTURE_FOLDERS):
        return False
    if not karpathy.find(root, karpathy.FLICKR30K):
        return True
    label = str(karpathy.find(root, karpathy.FLICKR8K))
    captions, _ = karpathy.read(root / label, label, [])
    return not captions.keys().isdisjoint(pictures_in(root, PICTURE_FOLDERS))


def _is_header(line: str) -> bool:
    return [column.strip(' "').lower() for column in line.split(",")] == ["image", "caption"]


def _rows(root: Path, problems: list[Problem]) -> Iterator[tuple[str, str, str]] | None:
    """(place, name, caption) of each row of the caption file; None if it is neither the original nor Kaggle's."""
    token_file = _find(root, TOKEN_FILE)
    if token_file is not None:
        return read_tokens(token_file, str(token_file.relative_to(root)), problems)
    if _is_kaggle_csv(root):
        return _csv_rows(root / CSV_FILE, problems)
    return None


def _csv_rows(path: Path, problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    """(place, name, caption) of each row of Kaggle's caption file.

    Each line is parsed by itself: captions never hold a line break, and an unbalanced quotation mark would otherwise
    silently swallow the rows after it.
    """
    for place, line in read_lines(path, CSV_FILE, problems):
        if _is_header(line):
            continue
        try:
            name, *caption = next(csv.reader([line], strict=True))
        except csv.Error as error:
            problems.append(Problem("short_row", place, f"not a CSV row: {error}"))
            continue
        if caption:
            yield place, name, ",".join(caption)  # some copies do not quote captions with commas
        else:
            problems.append(Problem("short_row", place, "no comma between name and caption"))


def _official_splits(root: Path, problems: list[Problem]) -> dict[str, str] | None:
    """Each picture's split by the split files, or None if none of them exists."""
    found = {split: path for split, name in SPLIT_FILES.items() if (path := _find(root, name)) is not None}
    assignments = (
        (line.strip(), split)
        for split, path in found.items()
        for _, line in read_lines(path, str(path.relative_to(root)), problems)
    )
    return one_split_each(root, assignments) if found else None
