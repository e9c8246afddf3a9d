"""Captions for a block of pictures: the one piece of work that every engine does."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Unpack

from captionist.captioner import Captioner, CaptionResult
from captionist.collection.references import Reference, read
from captionist.errors import ImageError
from captionist.images import ImageLimits
from captionist.inference.options import SearchOverrides

READERS = 8
"""Pictures that are read at the same time: what is far away takes long to answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one picture.

    path: its name. sha256: of its bytes, hexadecimal; None where they could not be read, so that another run should try
    again. caption, log_probability, confidence: as in `Caption`. error: why there is none. With neither caption nor
    error, the answer is that of another picture with the same bytes.
    """

    path: str
    sha256: str | None
    caption: str | None = None
    log_probability: float | None = None
    confidence: float | None = None
    error: str | None = None


Claim = Callable[[Sequence[tuple[str, str]]], list[bool]]
"""Is told pictures, each as sha256 and path; says of each whether it is this one that should be captioned."""


class Claims:
    """Which of the pictures with the same bytes is captioned: the first one asked for, however often that is."""

    def __init__(self, answered: Iterable[str] = ()) -> None:
        """answered: hashes of pictures that need no caption any more."""
        self._first = dict.fromkeys(answered, "")

    def claim(self, pictures: Sequence[tuple[str, str]]) -> list[bool]:
        return [self._first.setdefault(sha256, path) == path for sha256, path in pictures]


def caption_block(
    captioner: Captioner, block: Sequence[Reference], claim: Claim, **options: Unpack[SearchOverrides]
) -> list[Row]:
    """A row for each picture, in order; whatever is wrong with one is in its row. options: see `SearchOptions`."""
    with ThreadPoolExecutor(READERS, "captionist-read") as pool:
        contents = list(pool.map(lambda reference: _read(reference, captioner.limits), block))
    rows, pictures = [], {}
    for reference, content in zip(block, contents, strict=True):
        if isinstance(content, bytes):
            rows.append(Row(reference.name, hashlib.sha256(content).hexdigest()))
            pictures[reference.name] = content
        else:
            rows.append(Row(reference.name, None, error=content))
    claimed = claim([(row.sha256, row.path) for row in rows if row.sha256])
    mine = [path for path, is_mine in zip(pictures, claimed, strict=True) if is_mine]
    answers = dict(zip(mine, _caption(captioner, [pictures[path] for path in mine], options), strict=True))
    return [replace(row, **answers.get(row.path, {})) for row in rows]


def _read(reference: Reference, limits: ImageLimits) -> bytes | str:
    """Its bytes, or what is wrong."""
    try:
        return read(reference, limits)
    except ImageError as error:
        return str(error)


def _caption(captioner: Captioner, contents: Sequence[bytes], options: SearchOverrides) -> list[dict[str, Any]]:
    """The fields that each picture's row gets."""
    try:
        results = list(captioner.caption_many(contents, **options))
    except Exception as error:  # of ours or of the machine, not of the picture: it must not cost others their captions
        if len(contents) > 1:
            return [fields for content in contents for fields in _caption(captioner, [content], options)]
        failed = f"could not be captioned ({type(error).__name__}: {error}): run again, and report it if it comes again"
        return [{"sha256": None, "error": failed}]
    return [_fields(result) for result in results]


def _fields(result: CaptionResult) -> dict[str, Any]:
    if result.caption is None:
        return {"error": str(result.error).removeprefix("<bytes>: ")}
    return {
        "caption": result.caption.text,
        "log_probability": result.caption.log_probability,
        "confidence": result.caption.confidence,
    }
