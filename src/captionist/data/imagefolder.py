"""Reads a plain folder of pictures with `metadata.jsonl`, the imagefolder convention of Hugging Face's datasets.

Each line is a JSON object: `file_name`, the picture's path relative to that `metadata.jsonl`, and its caption as `text`
or `caption`, or several as a list in `captions` (a list in the other two works as well). `weights`, a number for each,
says how much they count in training. The file is in the root, or in each of the folders that are the splits: `train/`;
`validation/`, `valid/`, `val/` or `dev/`; `test/`.

A picture's split is the first such folder in its path from the root, or what its line gives as `split`, in one of these
words. If no picture has either, each goes to train, dev or test by a hash of its path. Pictures are not opened, and
none is looked for outside the root.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from captionist import paths
from captionist.data.building import build, captions_of, files_in, gather, one_split_each
from captionist.data.records import Corpus, Problem
from captionist.data.splits import HASH_SPLIT_ORIGIN, SPLIT_FOLDERS, split_by_name
from captionist.data.textfiles import read_lines
from captionist.errors import DataError

METADATA = "metadata.jsonl"
LOOKS_FOR = f"{METADATA}, in the directory or in train/, validation/ and test/"


def recognises(root: Path) -> bool:
    """Whether the directory, or one of its split folders, holds a `metadata.jsonl`."""
    return bool(_metadata_files(root))


def read(root: Path) -> Corpus:
    """Read the corpus in `root`; an example's id is its path relative to it.

    Whatever is left out is listed in `Corpus.problems`.

    Raises:
        DataError: there is no `metadata.jsonl`, it or a folder cannot be read, or no example is left.
    """
    problems: list[Problem] = []
    labels = _metadata_files(root)
    if not labels:
        raise DataError(f"{root}: not a folder of captioned pictures. Looked for {LOOKS_FOR}.")
    named: list[tuple[str, str]] = []
    weights: dict[tuple[str, str], float] = {}
    captions = gather((row for label in labels for row in _rows(root, label, named, weights, problems)), problems)
    pictures = _pictures_beside(root, captions.keys() | set(labels))
    folders = {name: SPLIT_FOLDERS[top] for name in captions if (top := _top_folder(name)) in SPLIT_FOLDERS}
    if splits := one_split_each(root, (*folders.items(), *named)):
        origin = "the folder that a picture is in" if folders else f"the key split in {METADATA}"
        corpus = build(root, "imagefolder", origin, captions, splits, pictures, problems)
    else:
        corpus = build(root, "imagefolder", HASH_SPLIT_ORIGIN, captions, split_by_name, pictures, problems)
    return _weighed(corpus, weights) if weights else corpus


def _weighed(corpus: Corpus, weights: dict[tuple[str, str], float]) -> Corpus:
    """The same examples with the weights of their captions, given by picture and caption."""
    return replace(
        corpus,
        examples=tuple(
            replace(example, weights=tuple(weights.get((example.id, text), 1.0) for text in example.references))
            for example in corpus.examples
        ),
    )


def _metadata_files(root: Path) -> list[str]:
    labels = [METADATA, *(f"{folder}/{METADATA}" for folder in SPLIT_FOLDERS)]
    return [label for label in labels if paths.isfile(root / label)]


def _top_folder(name: str) -> str:
    return name.split("/")[0] if "/" in name else ""


def _pictures_beside(root: Path, names: set[str]) -> dict[str, tuple[Path, int]]:
    """All files in the folders of these paths, by path from the root; paths that leave the root are ignored."""
    pictures: dict[str, tuple[Path, int]] = {}
    for folder in {PurePosixPath(name).parent for name in names}:
        if folder.is_absolute() or ".." in folder.parts:
            continue
        with contextlib.suppress(OSError):  # a name of a megabyte is just a missing picture
            if paths.isdir(root / folder):
                pictures |= {str(folder / name): file for name, file in files_in(root / folder).items()}
    return pictures


def _rows(
    root: Path, label: str, named: list[tuple[str, str]], weights: dict[tuple[str, str], float], problems: list[Problem]
) -> Iterator[tuple[str, str, str]]:
    """(place, path from the root, caption) of each caption in the file.

    Adds path and split to `named`, and the weights, if there are any, to `weights` by path and caption.
    """
    folder = PurePosixPath(label).parent
    for place, line in read_lines(root / label, label, problems):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem("short_row", place, f"not JSON, or cut short: {error}"))
            continue
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip():
            problems.append(Problem("short_row", place, "no file_name"))
            continue
        path, split = str(folder / name.strip()), entry.get("split")
        if isinstance(split, str):
            if split.strip().lower() in SPLIT_FOLDERS:
                named.append((path, SPLIT_FOLDERS[split.strip().lower()]))
            else:
                problems.append(Problem("short_row", place, f"{name}: its split is none of {', '.join(SPLIT_FOLDERS)}"))
                continue
        captions = captions_of(entry)
        if not captions:
            problems.append(Problem("short_row", place, f"{name}: no caption, as text, caption or captions"))
        given = entry.get("weights")
        if given is not None and not _are_weights(given, len(captions)):
            problems.append(Problem("short_row", place, f"{name}: weights must be a number from 0 on for each caption"))
            continue
        weights |= {(path, caption.strip()): float(w) for caption, w in zip(captions, given or [], strict=False)}
        for caption in captions:
            yield place, path, caption


def _are_weights(found: Any, count: int) -> bool:
    if not isinstance(found, list) or len(found) != count:
        return False
    return all(isinstance(w, int | float) and not isinstance(w, bool) and 0 <= w < math.inf for w in found)
