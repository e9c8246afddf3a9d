"""Captions for a block of pictures: the unit of work that every runner does."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Unpack

from captionist.captioner import Captioner
from captionist.captions import CaptionResult
from captionist.collection.addresses import Address, read
from captionist.errors import FailedImageError, ImageError
from captionist.images import ImageLimits
from captionist.inference.sharing import paired
from captionist.options import SearchOverrides

READERS = 8
"""Pictures that are read at the same time: what is far away takes long to answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one picture.

    path: its name. sha256: of its bytes, hexadecimal; None if they could not be read or the work on them failed, so
    that another run should try again. caption, log_probability, confidence: as in `Caption`. error: why there is none.
    With neither caption nor error, the answer is that of another picture with the same bytes.
    """

    path: str
    sha256: str | None
    caption: str | None = None
    log_probability: float | None = None
    confidence: float | None = None
    error: str | None = None


Claim = Callable[[Sequence[tuple[str, str]]], list[bool]]
"""Is told pictures, each as sha256 and path; says of each whether it is this one that should be captioned."""


class _Read(NamedTuple):
    """A picture's bytes, and the place of its row in the block."""

    image: bytes
    place: int


class Claims:
    """Which of the pictures with the same bytes is captioned: the first one asked for, however often that is."""

    def __init__(self, answered: Iterable[str] = ()) -> None:
        """answered: hashes of pictures that need no caption any more."""
        self._first = dict.fromkeys(answered, "")

    def claim(self, pictures: Sequence[tuple[str, str]]) -> list[bool]:
        return [self._first.setdefault(sha256, path) == path for sha256, path in pictures]


def caption_block(
    captioner: Captioner, block: Sequence[Address], claim: Claim, **options: Unpack[SearchOverrides]
) -> list[Row]:
    """A row for each picture, in order; whatever is wrong with one is in its row. options: see `SearchOptions`."""
    with ThreadPoolExecutor(READERS, "captionist-read") as pool:
        contents = list(pool.map(lambda address: _read(address, captioner.limits), block))
    rows = [
        Row(address.name, hashlib.sha256(content).hexdigest())
        if isinstance(content, bytes)
        else Row(address.name, None, error=content)
        for address, content in zip(block, contents, strict=True)
    ]
    read = [_Read(content, place) for place, content in enumerate(contents) if isinstance(content, bytes)]
    claimed = claim([(str(rows[one.place].sha256), rows[one.place].path) for one in read])
    mine = [one for one, is_mine in zip(read, claimed, strict=True) if is_mine]
    results = captioner.caption_many((one.image for one in mine), **options)
    for one, result in paired(mine, results):
        rows[one.place] = replace(rows[one.place], **_fields(result))
    return rows


def _read(address: Address, limits: ImageLimits) -> bytes | str:
    """Its bytes, or what is wrong."""
    try:
        return read(address, limits)
    except ImageError as error:
        return str(error)
    except Exception as error:  # of ours or of the machine: it must not cost others their captions
        return f"could not be read ({type(error).__name__}: {error}): run again, and report it if it happens again"


def _fields(result: CaptionResult) -> dict[str, Any]:
    """The fields that the picture's row gets."""
    if result.caption is None:
        error = {"error": str(result.error).removeprefix("<bytes>: ")}
        return error | ({"sha256": None} if isinstance(result.error, FailedImageError) else {})
    return {
        "caption": result.caption.text,
        "log_probability": result.caption.log_probability,
        "confidence": result.caption.confidence,
    }
