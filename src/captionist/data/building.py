"""What the readers share: turns caption rows, splits and picture files into a corpus, and lists every fault."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from captionist import paths
from captionist.data.records import Corpus, Example, Problem, problem_counts
from captionist.errors import DataError
from captionist.images import ImageFile

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

CAPTION_KEYS = ("captions", "caption", "text")

Pictures = Mapping[str, tuple[ImageFile, int]]
"""Place and size in bytes of every picture file, by the id that its example would have."""


def gather(rows: Iterable[tuple[str, str, str]], problems: list[Problem]) -> dict[str, list[str]]:
    """Every picture's captions, from rows of (place, picture, caption), in their order.

    A row without a name or without words is added to `problems` as "short_row".
    """
    captions: dict[str, list[str]] = defaultdict(list)
    for place, name, caption in rows:
        name, caption = name.strip(), caption.strip()
        if not name:
            problems.append(Problem("short_row", place, "no picture name"))
        elif not any(character.isalnum() for character in caption):
            problems.append(Problem("short_row", place, f"no words in the caption of {name}"))
        else:
            captions[name].append(caption)
    return dict(captions)


def captions_of(entry: dict[str, Any]) -> list[str]:
    """The captions in a JSON object, one or a list, under the first of CAPTION_KEYS that it has; only text counts."""
    found = next((entry[key] for key in CAPTION_KEYS if entry.get(key) is not None), None)
    captions = found if isinstance(found, list) else [found]
    return [caption for caption in captions if isinstance(caption, str)]


def one_split_each(root: Path, assignments: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The split of every picture, from pairs of (picture, split).

    Raises:
        DataError: a picture is in two splits.
    """
    splits: dict[str, str] = {}
    leaks = []
    for name, split in assignments:
        if splits.setdefault(name, split) != split:
            leaks.append(f"{name} ({splits[name]} and {split})")
    if leaks:
        raise DataError(
            f"{root}: pictures in two splits, which would leak into scores: {len(leaks):,}. "
            f"Remove each from one of them: {', '.join(leaks[:3])}{', ...' if len(leaks) > 3 else ''}."
        )
    return splits


def pictures_in(root: Path, folders: Iterable[str]) -> dict[str, tuple[Path, int]]:
    """The files in those of the folders that exist, by file name; for the same name, an earlier folder wins.

    Raises:
        DataError: none of the folders exists, or one cannot be read.
    """
    candidates = list(folders)
    found = [root / folder for folder in candidates if paths.isdir(root / folder)]
    if not found:
        raise DataError(f"{root}: no folder with pictures. Looked for {', '.join(f'{f}/' for f in candidates)}.")
    pictures: dict[str, tuple[Path, int]] = {}
    for folder in found:
        pictures = files_in(folder) | pictures
    return pictures


def files_in(folder: Path) -> dict[str, tuple[Path, int]]:
    """Path and size in bytes of every file in the folder, by file name; sub-folders are not entered.

    Raises:
        DataError: the folder cannot be read.
    """
    files: dict[str, tuple[Path, int]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # A link that is circular, or leads where we may not read, is just a missing picture.
                with contextlib.suppress(OSError):
                    if entry.is_file():
                        files[entry.name] = (Path(entry.path), entry.stat().st_size)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions.") from error
    return files


def build(
    root: Path,
    format: str,
    split_origin: str,
    captions: Mapping[str, list[str]],
    splits: Mapping[str, str] | Callable[[str], str],
    pictures: Pictures,
    problems: list[Problem],
) -> Corpus:
    """Put a corpus together; pictures are not opened.

    Args:
        captions: as `gather` returns them.
        splits: each picture's split ("none" for one that it does not name), or a function that decides by its name.
        pictures: all picture files; each is looked up by its name in `captions`.
        problems: what the reader has found so far. Pictures that are missing, empty or without captions are added, and
            names in `splits` without captions.

    Raises:
        DataError: no example is left.
    """
    named: Mapping[str, str] = {} if callable(splits) else splits
    examples = []
    for name, references in sorted(captions.items()):
        split = splits(name) if callable(splits) else named.get(name, "none")
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
        if PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES and name not in captions and name not in named:
            problems.append(Problem("picture_without_captions", name, f"in {path.parent.name}/"))

    if not examples:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in problem_counts(problems).items())
        first = f"; the first: {problems[0].subject} ({problems[0].detail})" if problems else ""
        raise DataError(f"{root}: no picture with a caption is left. Left out: {counts or 'nothing'}{first}.")
    return Corpus(root.resolve().name, root, format, split_origin, tuple(examples), tuple(problems))
