"""Text files of corpora, line by line: what cannot be decoded is reported, never guessed at."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from captionist.data.records import Problem
from captionist.errors import DataError


def read_lines(path: Path, label: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Yield (place, line) for every line that is not blank; place is `label:number`, counted from 1.

    A byte order mark and CRLF line ends are tolerated. A line that is not UTF-8 is left out and added to `problems`
    as "bad_encoding".

    Raises:
        DataError: the file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that it is a file you may open.") from error
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
