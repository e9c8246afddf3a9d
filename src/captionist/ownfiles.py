"""Recognises what Captionist itself has written, so that nobody has to keep it apart from pictures."""

import os

SHEET_START = b"\xff\xd8\xff\xfe\0\x12captionist sheet"
"""How a sheet written by --explain starts: a JPEG's first marker, and a comment."""
INDEX_FORMAT = "captionist index 1"
"""Near the start of an index, encoded as NumPy encodes text."""
TABLE_MANIFEST, TABLE_LOCK = "_captionist.json", "_captionist.lock"
"""A folder that holds one of these is a table written by --out. Readers of Parquet skip names that begin with _."""

_INDEX_STARTS = b"PK\3\4"
_INDEX_TEXT = INDEX_FORMAT.encode("utf-32-le")
_ENOUGH = 512  # bytes; in an index, the names and sizes before its first text take less


def is_own_file(path: str | os.PathLike[str]) -> bool:
    """Whether this regular file is a sheet or an index; False if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # for names too
            start = file.read(_ENOUGH)
    except OSError:
        return False
    return start.startswith(SHEET_START) or (start.startswith(_INDEX_STARTS) and _INDEX_TEXT in start)
