"""Captions a block of pictures: the unit of work of every runner."""

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
"""Pictures that are read at the same time, since distant storage answers slowly."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result for one picture.

    path: its name. sha256: of its bytes, hexadecimal; None if they could not be read or captioning them failed, so that
    another run tries again. caption, log_probability, confidence: as in `Caption`. error: why there is none. A row with
    neither caption nor error has the same answer as another picture with the same bytes.
    """

    path: str
    sha256: str | None
    caption: str | None = None
    log_probability: float | None = None
    confidence: float | None = None
    error: str | None = None


Claim = Callable[[Sequence[tuple[str, str]]], list[bool]]
"""Called with pictures, each as sha256 and path; returns for each whether to caption this one."""


class _Read(NamedTuple):
    """A picture's bytes, and the place of its row in the block."""

    image: bytes
    place: int


class Claims:
    """Picks one of the pictures with the same bytes: the first that is asked about, and again if it is asked again."""

    def __init__(self, answered: Iterable[str] = ()) -> None:
        """answered: hashes of pictures that no longer need a caption."""
        self._first = dict.fromkeys(answered, "")

    def claim(self, pictures: Sequence[tuple[str, str]]) -> list[bool]:
        return [self._first.setdefault(sha256, path) == path for sha256, path in pictures]


def caption_block(
    captioner: Captioner, block: Sequence[Address], claim: Claim, **options: Unpack[SearchOverrides]
) -> list[Row]:
    """A row for each picture, in order; what is wrong with one is in its row. options: see `SearchOptions`."""
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
    """The picture's bytes, or what is wrong with it."""
    try:
        return read(address, limits)
    except ImageError as error:
        return str(error)
    except Exception as error:  # ours or the machine's: it must not cost other pictures their captions
        return f"could not be read ({type(error).__name__}: {error}): run again, and report it if it happens again"


def _fields(result: CaptionResult) -> dict[str, Any]:
    """The fields for the picture's row."""
    if result.caption is None:
        error = {"error": str(result.error).removeprefix("<bytes>: ")}
        return error | ({"sha256": None} if isinstance(result.error, FailedImageError) else {})
    return {
        "caption": result.caption.text,
        "log_probability": result.caption.log_probability,
        "confidence": result.caption.confidence,
    }
