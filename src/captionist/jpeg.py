"""Whether a JPEG is complete (ITU-T T.81).

Pillow does not notice a cut file to which an end-of-image marker was appended, since libjpeg paints what is missing
grey; and it refuses complete pictures that lack the marker.
"""

import re
import struct
from typing import NamedTuple

from captionist.errors import CorruptImageError, UnsupportedImageError
from captionist.formats import CONVERT

CUT_SHORT = "the file is damaged or cut short; fetch or export it again"
# A marker is 0xFF and a code. 0xFF00 is a literal 0xFF in the picture's data; restart markers and TEM stand alone. (Of
# several 0xFF, the last one counts. Matching them all would take quadratic time if no code follows.)
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SOF_BASELINE_TO_PROGRESSIVE = {0xC0, 0xC1, 0xC2}
_ALL_COEFFICIENTS = 2**64 - 1
_MOST_SEGMENTS = 5_000  # a profile of 16 MB takes 255
_MOST_FILLING = 10_000  # bytes between two segments
_MOST_SCANS = 200  # real ones have about ten; each costs a pass over the whole picture
_NOISE = bytes(range(200, 0, -1)) * 3  # looks like scan data to a decoder: no 0xFF


class Jpeg(NamedTuple):
    """Where a JPEG's picture ends in its file."""

    scans_end: int
    """Just after the data of the last scan."""
    end: int
    """Just after the end-of-image marker; the same as `scans_end` if there is none."""

    def whole(self, data: bytes) -> bytes:
        """The picture alone, with an end marker."""
        return data if self.end == len(data) > self.scans_end else data[: self.scans_end] + b"\xff\xd9"

    def longer(self, data: bytes) -> bytes:
        """The same with more scan data: it changes nothing in a complete picture, and fills the gap in a cut one."""
        restarts = _RESTART.findall(data, 0, self.scans_end)
        after = bytes([0xFF, 0xD0 + (restarts[-1][0] + 1) % 8 if restarts else 0xD0])
        return data[: self.scans_end] + _NOISE + after + _NOISE + b"\xff\xd9"


def read_jpeg(data: bytes) -> Jpeg:
    """Walk through a JPEG from marker to marker.

    Raises CorruptImageError if parts are missing (a cut inside the last scan does not show), and UnsupportedImageError
    for kinds that are very rare.
    """
    sent: dict[int, int] = {}  # component -> bit set of the DCT coefficients that have arrived in full precision
    at, scans, segments = 2, 0, 0
    while match := _MARKER.search(data, at):
        segments += 1
        if segments > _MOST_SEGMENTS or (match.start() - at > _MOST_FILLING and not scans):
            raise UnsupportedImageError(f"a JPEG with this much data before its picture is not supported; {CONVERT}")
        marker, at = match[1][0], match.end()
        if _all(sent):  # whatever follows is no part of the picture
            return Jpeg(match.start(), at if marker == _EOI else match.start())
        length = int.from_bytes(data[at : at + 2], "big")
        if marker == _SOI:
            raise CorruptImageError(f"a second picture starts before the first one ends: {CUT_SHORT}")
        if marker == _EOI or length < 3 or at + length > len(data):
            break
        segment = data[at + 2 : at + length]
        if marker in _SOF:
            sent = _components(marker, segment)
        elif marker == _SOS:
            scans += 1
            if scans > _MOST_SCANS:
                raise UnsupportedImageError(f"a JPEG of more than {_MOST_SCANS} scans is not supported; {CONVERT}")
            _note_scan(segment, sent)
        at += length
    # libjpeg does not notice that a scan never came; such a picture lacks a colour or all fine detail.
    if not _all(sent):
        raise CorruptImageError(f"parts of the picture's data are missing: {CUT_SHORT}")
    # No end marker: some cameras forget it, or write zeros or notes of their own in its place.
    end = len(data.rstrip(b"\0"))
    if data[end - 1] == 0xFF:
        end += 1 if end < len(data) else -1  # 0xFF00 is data; 0xFF alone is the first half of a marker
    return Jpeg(end, end)


def _all(sent: dict[int, int]) -> bool:
    return bool(sent) and all(coefficients == _ALL_COEFFICIENTS for coefficients in sent.values())


def _components(marker: int, segment: bytes) -> dict[int, int]:
    if marker not in _SOF_BASELINE_TO_PROGRESSIVE or segment[0] != 8:
        raise UnsupportedImageError(f"lossless, arithmetic-coded and 12-bit JPEGs are not supported; {CONVERT}")
    return dict.fromkeys(segment[6::3], 0)


def _note_scan(segment: bytes, sent: dict[int, int]) -> None:
    try:
        first, last, approximation = struct.unpack_from("3B", segment, 1 + 2 * segment[0])
    except struct.error:
        raise CorruptImageError(CUT_SHORT) from None
    if approximation & 15 == 0:  # this scan brings the lowest bit of these coefficients
        for component in segment[1 : 1 + 2 * segment[0] : 2]:
            sent[component] = sent.get(component, 0) | (2 ** (last + 1) - 2**first)
