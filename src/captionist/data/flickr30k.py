"""Reads Flickr30k (Young, Lai, Hodosh and Hockenmaier 2014, TACL 2) in the three layouts that people have.

These are Karpathy's `dataset_flickr30k.json` (captions and the split of 29,000 / 1,014 / 1,000 that papers report on),
Kaggle's `results.csv` (`name.jpg| 0| caption`), and the original `results_20130124.token` (`name.jpg#0<TAB>caption`).
If there are several, the first of these counts. The pictures are in one of PICTURE_FOLDERS. They are not opened.

Only Karpathy's file has a split. Without it, each picture goes to train, dev or test by a hash of its name, as in any
corpus that comes without a split: a run needs a dev split, and a picture must stay where it is. Those splits are not
the published ones, so their scores are not comparable with published scores. Flickr30k holds nearly all of Flickr8k's
dev and test pictures, whichever split it has: name Flickr8k in `data.exclude` of a recipe that trains on it.
"""

from collections.abc import Iterator
from pathlib import Path

from captionist import paths
from captionist.data import karpathy
from captionist.data.building import build, gather, pictures_in
from captionist.data.records import Corpus, Problem
from captionist.data.splits import HASH_SPLIT_ORIGIN, split_by_name
from captionist.data.textfiles import read_lines, read_tokens
from captionist.errors import DataError

CSV_FILE = "results.csv"
TOKEN_FILE = "results_20130124.token"
PICTURE_FOLDERS = (
    "flickr30k_images",
    "flickr30k-images",
    "flickr30k_images/flickr30k_images",  # as Kaggle's archive unpacks
    "Images",
    "images",
)
LOOKS_FOR = f"{karpathy.FLICKR30K}, {CSV_FILE} with the header image_name| comment_number| comment, or {TOKEN_FILE}"


def recognises(root: Path) -> bool:
    """Whether the directory holds one of the three caption files."""
    return karpathy.is_of(root, karpathy.FLICKR30K, PICTURE_FOLDERS) or _is_csv(root) or paths.isfile(root / TOKEN_FILE)


def read(root: Path) -> Corpus:
    """Read the corpus in `root`; whatever is left out is listed in `Corpus.problems`.

    Raises:
        DataError: a caption file or picture folder is missing or unreadable, a picture is in two splits, or no
            example is left.
    """
    problems: list[Problem] = []
    if label := karpathy.find(root, karpathy.FLICKR30K):
        captions, splits = karpathy.read(root / label, label, problems)
        origin = f"Karpathy's, in {label}"
        return build(root, "flickr30k", origin, captions, splits, pictures_in(root, PICTURE_FOLDERS), problems)
    if _is_csv(root):
        rows = _csv_rows(root / CSV_FILE, problems)
    elif paths.isfile(root / TOKEN_FILE):
        rows = read_tokens(root / TOKEN_FILE, TOKEN_FILE, problems)
    else:
        raise DataError(f"{root}: not Flickr30k. Looked for {LOOKS_FOR}.")
    captions = gather(rows, problems)
    pictures = pictures_in(root, PICTURE_FOLDERS)
    return build(root, "flickr30k", HASH_SPLIT_ORIGIN, captions, split_by_name, pictures, problems)


def _is_csv(root: Path) -> bool:
    path = root / CSV_FILE
    return paths.isfile(path) and next((_is_header(line) for _, line in read_lines(path, CSV_FILE, [])), False)


def _is_header(line: str) -> bool:
    return [column.strip() for column in line.split("|")] == ["image_name", "comment_number", "comment"]


def _csv_rows(path: Path, problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    """(place, name, caption) of each row. One row in Kaggle's own file lacks its second separator."""
    for place, line in read_lines(path, CSV_FILE, problems):
        if _is_header(line):
            continue
        columns = line.split("|", 2)
        if len(columns) == 3:
            yield place, columns[0], columns[2]
        else:
            problems.append(Problem("short_row", place, "not three columns with | between them"))
