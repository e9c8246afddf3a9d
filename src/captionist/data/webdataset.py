"""Reads tar archives of pictures and captions, the shards of WebDataset (Aizman et al. 2019, arXiv:2001.01858).

Files in a shard whose paths agree up to the first dot of the file name form a sample: `0001.jpg` with its captions in
`0001.txt` or `0001.caption`, one a line, or in `0001.json`, under the keys of `metadata.jsonl` or as a list. The first
of these that has any counts. If no picture has that name, files that agree up to the last dot form one: `img.0001.jpg`
and `img.0001.txt` next to `img.0002.jpg` and `img.0002.txt`.

The shards are in the root, or in folders that are the splits. Nothing is unpacked: an example's picture is a `FilePart`
of its shard, and opening the corpus reads only the captions. That is why compressed shards are not read.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from captionist import paths
from captionist.data.building import PICTURE_SUFFIXES, build, captions_of, files_in, gather
from captionist.data.records import Corpus, Problem
from captionist.data.shards import walk
from captionist.data.splits import SPLIT_FOLDERS, split_by_name
from captionist.data.textfiles import decode_lines
from captionist.errors import DataError
from captionist.images import FilePart

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Compressed ones are listed so that they can be refused by name."""
CAPTION_SUFFIXES = (".txt", ".caption", ".json")
LOOKS_FOR = "shards such as train-000000.tar, in the directory or in train/, validation/ and test/"

_SUFFIXES = PICTURE_SUFFIXES.union(CAPTION_SUFFIXES)
_MOST_BYTES = 1_000_000  # of a file of captions
_KEY = re.compile(r"((?:.*/)?[^./]+)(\.[^/]+)", re.DOTALL)


@dataclass(slots=True)
class _Sample:
    """What a shard has under one key."""

    picture: FilePart | None = None
    captions: dict[str, FilePart] = field(default_factory=dict)
    """By their suffix."""


def recognises(root: Path) -> bool:
    """Whether there is a tar archive in the directory or in one of its split folders."""
    return bool(_shards(root))


def read(root: Path) -> Corpus:
    """Read the corpus in `root`; an example's id is the path of its shard and its own path in it.

    A shard's split is in its path: the first word that is the name of a split. If no shard has one, each sample goes to
    train, dev or test by a hash of its key. Whatever is left out is listed in `Corpus.problems`.

    Raises:
        DataError: there is no shard, a folder or captions cannot be read, or no example is left.
    """
    labels = _shards(root)
    if not labels:
        raise DataError(f"{root}: no shards. Looked for {LOOKS_FOR}.")
    problems: list[Problem] = []
    pictures: dict[str, tuple[FilePart, int]] = {}
    rows: list[tuple[str, str, str]] = []
    splits: dict[str, str] = {}
    named = {label: split for label in labels if (split := _split(label))}
    for label in labels:
        for key, sample in _samples(root, label, problems).items():
            name = f"{label}/{sample.picture.name if sample.picture else key}".strip()  # as in `gather`
            splits[name] = named.get(label, "none") if named else split_by_name(key)
            if sample.picture:
                pictures[name] = sample.picture, sample.picture.size
            rows += ((place, name, caption) for place, caption in _captions(label, sample, problems))
    origin = "the shards' names or folders" if named else "80/10/10 by a hash of the key (no shard has a split's name)"
    return build(root, "webdataset", origin, gather(rows, problems), splits.__getitem__, pictures, problems)


def _shards(root: Path) -> list[str]:
    """The shards' paths from the root, sorted."""
    found = []
    for folder in ("", *SPLIT_FOLDERS):
        if paths.isdir(root / folder):
            names = (name for name in files_in(root / folder) if name.lower().endswith(SUFFIXES) and name[0] != ".")
            found += [f"{folder}/{name}" if folder else name for name in names]
    return sorted(found)


def _split(label: str) -> str | None:
    """`coco-val-0003.tar` -> dev."""
    words = re.split(r"[^a-z]+", label.lower())
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), None)


def _samples(root: Path, label: str, problems: list[Problem]) -> dict[str, _Sample]:
    """The shard's samples by key; a key with neither picture nor captions is not a sample."""
    samples: dict[str, _Sample] = defaultdict(_Sample)
    dotted: dict[str, list[FilePart]] = defaultdict(list)
    for part in walk(root / label, label, problems):
        match = _KEY.fullmatch(part.name)
        if not match:
            continue
        key, suffix = match[1], match[2].lower()
        if suffix in _SUFFIXES:
            _add(part, samples[key], label, problems)
        elif PurePosixPath(suffix).suffix in _SUFFIXES:  # a mask, or part of a sample whose name looks like one
            dotted[key].append(part)
    for key, parts in dotted.items():
        if key not in samples or not samples[key].picture:
            samples |= _dotted(parts, label, problems)
    return samples


def _add(part: FilePart, sample: _Sample, label: str, problems: list[Problem]) -> None:
    suffix = PurePosixPath(part.name).suffix.lower()
    if suffix in CAPTION_SUFFIXES:
        if sample.captions.setdefault(suffix, part) is not part:
            problems.append(Problem("bad_member", f"{label}/{part.name}", "a second file of its name"))
    elif sample.picture:
        problems.append(Problem("bad_member", f"{label}/{part.name}", "a second picture of its key"))
    else:
        sample.picture = part


def _dotted(parts: list[FilePart], label: str, problems: list[Problem]) -> dict[str, _Sample]:
    """The samples of files whose keys are taken to end at their last dots; here, a picture must have captions."""
    samples: dict[str, _Sample] = defaultdict(_Sample)
    for part in parts:
        _add(part, samples[str(PurePosixPath(part.name).with_suffix(""))], label, problems)
    for sample in samples.values():
        if sample.picture and not sample.captions:
            detail = "no captions have its name up to the first dot, nor up to the last one"
            problems.append(Problem("bad_member", f"{label}/{sample.picture.name}", detail))
    return {key: sample for key, sample in samples.items() if sample.captions}


def _captions(label: str, sample: _Sample, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """(place, caption) for each caption in the first of the sample's files that has any."""
    for suffix in CAPTION_SUFFIXES:
        part = sample.captions.get(suffix)
        if part is None:
            continue
        place = f"{label}/{part.name}"
        if part.size > _MOST_BYTES:
            problems.append(Problem("short_row", place, f"{part.size:,} bytes are too many for captions"))
            continue
        try:
            raw = part.read_bytes()
        except OSError as error:
            raise DataError(f"{part}: cannot be read ({error.strerror}); check the disk that it is on.") from error
        if suffix == ".json":
            found = [(place, caption) for caption in _json_captions(raw, place, problems)]
        else:
            found = list(decode_lines(raw, place, problems))
        if found:
            yield from found
            return


def _json_captions(raw: bytes, place: str, problems: list[Problem]) -> list[str]:
    try:
        entry: Any = json.loads(raw)
    except UnicodeDecodeError as error:
        problems.append(Problem("bad_encoding", place, f"byte 0x{raw[error.start]:02x} is not UTF-8"))
        return []
    except (ValueError, RecursionError) as error:
        problems.append(Problem("short_row", place, f"not JSON, or cut short: {error}"))
        return []
    entry = {"captions": entry} if isinstance(entry, list) else entry
    found = captions_of(entry) if isinstance(entry, dict) else []
    if not found:
        problems.append(Problem("short_row", place, "no caption, as text, caption or captions"))
    return found
