"""Reads Flickr8k (Hodosh, Young and Hockenmaier 2013, JAIR 47) in the two layouts that people have.

The original: `Flickr8k.token.txt` (`name.jpg#0<TAB>caption`) and `Flickr_8k.{train,dev,test}Images.txt`, in the root
or in `Flickr8k_text/`. Kaggle's: `captions.txt`, a CSV with the header `image,caption`, and no split files. In both
the pictures lie in `Images/`, `Flicker8k_Dataset/` or `Flickr8k_Dataset/`.

Captions and split are found independently, so mixtures work: split files beside a `captions.txt` are used, and a
`Flickr8k.token.txt` without any split file is split by picture. Where both caption files are present, the original
counts. Pictures are not opened; a damaged one shows when it is decoded.
"""

import contextlib
import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from captionist.data.records import Corpus, Example, Problem, problem_counts
from captionist.data.splits import HASH_SPLIT_ORIGIN, split_by_name
from captionist.data.textfiles import read_lines
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
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
LOOKS_FOR = f"{TOKEN_FILE} (or {TEXT_FOLDERS[1]}/{TOKEN_FILE}), or {CSV_FILE} with the header image,caption"

_CAPTION_NUMBER = re.compile(r"#\d+$")


def recognises(root: Path) -> bool:
    """Whether the directory holds one of the two caption files."""
    return _find(root, TOKEN_FILE) is not None or _is_kaggle_csv(root)


def read(root: Path) -> Corpus:
    """Read the corpus in `root`; whatever is left out is listed in `Corpus.problems`.

    Raises:
        DataError: a caption file or picture folder is missing or unreadable, a picture is in two splits, or no
            example is left.
    """
    problems: list[Problem] = []
    captions = _captions(root, problems)
    official = _official_splits(root, problems)
    pictures = _picture_sizes(root)
    named = official or {}

    examples = []
    for name, references in sorted(captions.items()):
        split = split_by_name(name) if official is None else named.get(name, "none")
        lost = f"captions lost: {len(references)}, split: {split}"
        path, size = pictures.get(name, (None, 0))
        if path is None:
            problems.append(Problem("missing_picture", name, lost))
        elif size == 0:
            problems.append(Problem("empty_picture", name, lost))
        else:
            examples.append(Example(name, path, tuple(references), split))
    for name, split in sorted(named.items()):
        if name not in captions:
            picture = "its picture is there" if name in pictures else "nor is there such a picture"
            problems.append(Problem("unknown_name", name, f"split: {split}, {picture}"))
    for name, (path, _) in sorted(pictures.items()):
        if path.suffix.lower() in PICTURE_SUFFIXES and name not in captions and name not in named:
            problems.append(Problem("picture_without_captions", name, f"in {path.parent.name}/"))

    if not examples:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in problem_counts(problems).items())
        first = f"; the first: {problems[0].subject} ({problems[0].detail})" if problems else ""
        raise DataError(f"{root}: no picture with a caption is left. Left out: {counts or 'nothing'}{first}.")
    origin = HASH_SPLIT_ORIGIN if official is None else "the corpus's split files"
    return Corpus(root.resolve().name, root, "flickr8k", origin, tuple(examples), tuple(problems))


def _find(root: Path, name: str) -> Path | None:
    """The text file `name`, in the root or in `Flickr8k_text/`."""
    return next((root / folder / name for folder in TEXT_FOLDERS if (root / folder / name).is_file()), None)


def _is_kaggle_csv(root: Path) -> bool:
    path = root / CSV_FILE
    return path.is_file() and next((_is_header(line) for _, line in read_lines(path, CSV_FILE, [])), False)


def _is_header(line: str) -> bool:
    return [column.strip(' "').lower() for column in line.split(",")] == ["image", "caption"]


def _captions(root: Path, problems: list[Problem]) -> dict[str, list[str]]:
    """Every picture's captions, in the order of the file."""
    token_file = _find(root, TOKEN_FILE)
    if token_file is not None:
        rows = _token_rows(token_file, str(token_file.relative_to(root)), problems)
    elif _is_kaggle_csv(root):
        rows = _csv_rows(root / CSV_FILE, problems)
    else:
        raise DataError(f"{root}: not Flickr8k. Looked for {LOOKS_FOR}.")

    captions: dict[str, list[str]] = defaultdict(list)
    for place, name, caption in rows:
        name, caption = _CAPTION_NUMBER.sub("", name.strip()), caption.strip()
        if not name:
            problems.append(Problem("short_row", place, "no picture name"))
        elif not any(character.isalnum() for character in caption):
            problems.append(Problem("short_row", place, f"no words in the caption of {name}"))
        else:
            captions[name].append(caption)
    return dict(captions)


def _token_rows(path: Path, label: str, problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    """(place, name with its caption number, caption) of each row of the original caption file."""
    for place, line in read_lines(path, label, problems):
        name, tab, caption = line.partition("\t")
        if tab:
            yield place, name, caption
        else:
            problems.append(Problem("short_row", place, "no tab between name and caption"))


def _csv_rows(path: Path, problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    """(place, name, caption) of each row of Kaggle's caption file.

    Each line is parsed by itself: captions never hold a line break, and an unbalanced quotation mark would otherwise
    swallow the rows after it without a word.
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
    """Each picture's split by the split files, or None where there is not one of them."""
    splits: dict[str, str] = {}
    leaks: list[str] = []
    found = {split: path for split, name in SPLIT_FILES.items() if (path := _find(root, name)) is not None}
    for split, path in found.items():
        for _, line in read_lines(path, str(path.relative_to(root)), problems):
            name = line.strip()
            if splits.setdefault(name, split) != split:
                leaks.append(f"{name} ({splits[name]} and {split})")
    if leaks:
        raise DataError(
            f"{root}: pictures in two splits, which would leak into scores: {len(leaks):,}. "
            f"Remove each from one of the split files: {', '.join(leaks[:3])}{', ...' if len(leaks) > 3 else ''}."
        )
    return splits if found else None


def _picture_sizes(root: Path) -> dict[str, tuple[Path, int]]:
    """Path and size in bytes of every file in the picture folders, by file name."""
    folders = [root / folder for folder in PICTURE_FOLDERS if (root / folder).is_dir()]
    if not folders:
        raise DataError(f"{root}: no folder with pictures. Looked for {', '.join(f'{f}/' for f in PICTURE_FOLDERS)}.")
    sizes: dict[str, tuple[Path, int]] = {}
    try:
        for folder in folders:
            with os.scandir(folder) as entries:
                for entry in entries:
                    # A link that goes round, or to where nobody may read, is a missing picture and no more.
                    with contextlib.suppress(OSError):
                        if entry.is_file():
                            sizes.setdefault(entry.name, (Path(entry.path), entry.stat().st_size))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions.") from error
    return sizes
