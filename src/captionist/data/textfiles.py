"""Text files of corpora: what cannot be decoded is reported, never guessed."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captionist.data.records import Problem
from captionist.errors import DataError

_CAPTION_NUMBER = re.compile(r"#\d+$")


def read_lines(path: Path, label: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Yield (place, line) for every line of the file, as `decode_lines` does.

    Raises:
        DataError: the file cannot be read.
    """
    yield from decode_lines(_read(path), label, problems)


def decode_lines(raw: bytes, label: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Yield (place, line) for every line that is not blank; place is `label:number`, counted from 1.

    A byte order mark and CRLF line ends are tolerated. A line that is not UTF-8 is left out and added to `problems`
    as "bad_encoding".
    """
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        place = f"{label}:{number}"
        try:
            text = line.decode("utf-8").strip("\r")
        except UnicodeDecodeError as error:
            column, byte = error.start + 1, line[error.start]
            problems.append(Problem("bad_encoding", place, f"byte 0x{byte:02x} at column {column} is not UTF-8"))
            continue
        if text.strip():
            yield place, text


def read_tokens(path: Path, label: str, problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    """(place, picture, caption) of each row `name.jpg#0<TAB>caption`, the format in which Flickr8k and Flickr30k
    appeared.

    Raises:
        DataError: the file cannot be read.
    """
    for place, line in read_lines(path, label, problems):
        name, tab, caption = line.partition("\t")
        if tab:
            yield place, _CAPTION_NUMBER.sub("", name.strip()), caption
        else:
            problems.append(Problem("short_row", place, "no tab between name and caption"))


def read_json(path: Path, keys: frozenset[str]) -> dict[str, Any]:
    """The JSON object in the file; in all objects in it, only these keys are kept.

    Other keys are dropped during parsing: Karpathy's files repeat each caption word by word, and for a made-up file of
    the size and shape of COCO's this took 520 MiB instead of 930.

    Raises:
        DataError: the file cannot be read, is cut short, or holds anything but a JSON object.
    """
    raw = _read(path)
    try:
        content = json.loads(raw, object_hook=lambda entry: {key: entry[key] for key in keys & entry.keys()})
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise DataError(f"{path}: not JSON, or cut short ({error}); fetch or unpack it again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a JSON object is needed, not {type(content).__name__}; fetch or unpack it again.")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that it is a file you may open.") from error
