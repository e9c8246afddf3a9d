"""What a picture's bytes say about it before a single pixel is decoded: its format, size, orientation and whether it
is all there.

OpenCV allocates a picture before it notices that the picture is absurd, and its decoders are lenient about missing
data. So each format is walked here first, from one declared length to the next. The errors raised here do not name the
file: `captionist.images.decode` adds the name.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from captionist.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from captionist.image_formats import CONVERT, identify

# libpng reads at most this many pixels on a side; OpenCV stops every format a little later, at 2**20.
MAX_SIDE = 1_000_000
# OpenCV's own ceiling (OPENCV_IO_MAX_IMAGE_PIXELS): limits above it cannot be granted.
MAX_PIXELS = 2**30
GREY_OF_THREE = (128,)
"""`Header.lost_greys` of a JPEG in grey or colour; one with four inks has others."""
CUT_SHORT = "the file is damaged or cut short; fetch or export it again"


@dataclass(frozen=True)
class Header:
    """What decoding needs to know. `width` and `height` are in pixels, as stored (before `orientation` is applied)."""

    format: str
    width: int
    height: int
    end: int
    """Where the picture's bytes end; whatever follows (a video, a second picture, rubbish) is not part of it."""
    orientation: int = 1
    """EXIF orientation, 1 to 8, that is still to be applied after OpenCV's decoding."""
    premultiplied: bool = False
    """Colours come out of the decoder already multiplied by alpha."""
    transparent_grey: float | None = None
    """In a grey PNG, the one level (0..1) that means transparent; OpenCV ignores it."""
    lost_greys: tuple[int, ...] = ()
    """The levels in which libjpeg paints blocks whose data is missing."""


def read_header(data: bytes, max_pixels: int) -> Header:
    """Read the header of a non-empty picture file and check that nothing is missing up to its end.

    Raises NotAnImageError, UnsupportedImageError, CorruptImageError, or ImageTooLargeError for more than `max_pixels`
    pixels; the size is checked as soon as it is known.
    """
    return _READERS[identify(data)](data, min(max_pixels, MAX_PIXELS))


# --- What all formats share -----------------------------------------------------------------------------------------


def _unpack(layout: str, data: bytes, offset: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(layout, data, offset)
    except (struct.error, OverflowError):  # OverflowError: a 64-bit offset beyond what an index can be
        raise CorruptImageError(CUT_SHORT) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise CorruptImageError(f"its header says {width} x {height} pixels; {CONVERT} from the original")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{width:,} x {height:,} pixels are {width * height:,}, more than the limit of {max_pixels:,}; "
            "scale the picture down, or raise the limit (--max-pixels, in Python ImageLimits.max_pixels)"
        )
    if max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(
            f"{width:,} x {height:,} pixels: no side may be longer than {MAX_SIDE:,}; scale the picture down"
        )


# --- JPEG (ITU-T T.81) ----------------------------------------------------------------------------------------------

# A marker is 0xFF and a code; 0xFF00 is a literal 0xFF in the picture's data, and restart markers and TEM stand alone.
# (Of several 0xFF the last one counts. Matching them all would take quadratic time where no code follows.)
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SOF_BASELINE_TO_PROGRESSIVE = {0xC0, 0xC1, 0xC2}
_ALL_COEFFICIENTS = 2**64 - 1


def _read_jpeg(data: bytes, max_pixels: int) -> Header:
    width = height = 0
    orientation = 1
    sent: dict[int, int] = {}  # component -> bit set of the DCT coefficients that have arrived in full precision
    at = 2
    while True:
        match = _JPEG_MARKER.search(data, at)
        if match is None:
            raise CorruptImageError(f"the end-of-image marker is missing: {CUT_SHORT}")
        marker, at = match[1][0], match.end()
        if marker == _EOI:
            break
        if marker == _SOI:
            raise CorruptImageError(f"a second picture starts before the first one ends: {CUT_SHORT}")
        (length,) = _unpack(">H", data, at)
        segment = data[at + 2 : at + length]
        if length < 2 or at + length > len(data):
            raise CorruptImageError(CUT_SHORT)
        if marker in _SOF:
            precision, height, width, components = _unpack(">BHHB", segment, 0)
            _check_size(width, height, max_pixels)
            if marker not in _SOF_BASELINE_TO_PROGRESSIVE or precision != 8:
                raise UnsupportedImageError(f"lossless, arithmetic-coded and 12-bit JPEGs are not supported; {CONVERT}")
            sent = dict.fromkeys(segment[6 : 6 + 3 * components : 3], 0)
        elif marker == _SOS:
            _note_scan(segment, sent)
        elif marker == _APP1 and segment.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(segment[6:])
        at += length
    # libjpeg does not miss a scan that never came; in such a picture a colour or all fine detail is absent.
    if not sent or any(coefficients != _ALL_COEFFICIENTS for coefficients in sent.values()):
        raise CorruptImageError(f"parts of the picture's data are missing: {CUT_SHORT}")
    # Mid-grey, and what OpenCV's conversion makes of it when the picture is CMYK or YCCK.
    lost_greys = (64, 65) if len(sent) == 4 else GREY_OF_THREE
    return Header("JPEG", width, height, at, orientation, lost_greys=lost_greys)


def _note_scan(segment: bytes, sent: dict[int, int]) -> None:
    (count,) = _unpack(">B", segment, 0)
    first, last, approximation = _unpack(">BBB", segment, 1 + 2 * count)
    if approximation & 15 == 0:  # the lowest bit of these coefficients is in this scan
        for component in segment[1 : 1 + 2 * count : 2]:
            sent[component] = sent.get(component, 0) | (2 ** (last + 1) - 2**first)


# --- PNG ------------------------------------------------------------------------------------------------------------


def _read_png(data: bytes, max_pixels: int) -> Header:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise CorruptImageError(f"its PNG signature is not whole: {CUT_SHORT}")
    width, height, depth, colour = _unpack(">IIBB", data, 16)
    _check_size(width, height, max_pixels)
    orientation, transparent_grey = 1, None
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = _unpack(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (checksum,) = _unpack(">I", data, at + 8 + length)
        if kind[:1].isupper() and zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise CorruptImageError(f"a checksum does not match: {CUT_SHORT}")
        if kind == b"eXIf":
            orientation = _exif_orientation(body)
        elif kind == b"tRNS" and colour == 0:
            transparent_grey = _unpack(">H", body, 0)[0] / (2**depth - 1)
        at += 12 + length
    return Header("PNG", width, height, at, orientation, transparent_grey=transparent_grey)


# --- GIF ------------------------------------------------------------------------------------------------------------


def _read_gif(data: bytes, max_pixels: int) -> Header:
    width, height, flags = _unpack("<HHB", data, 6)
    _check_size(width, height, max_pixels)
    at = 13 + _gif_palette_size(flags)
    frames = 0
    while True:
        (kind,) = _unpack("B", data, at)
        if kind == 0x3B:  # trailer
            break
        if kind == 0x2C:  # frame: position, size, palette, compressed pixels
            frame_width, frame_height, flags = _unpack("<HHB", data, at + 5)
            _check_size(frame_width, frame_height, max_pixels)
            at = _skip_gif_blocks(data, at + 11 + _gif_palette_size(flags))
            frames += 1
        elif kind == 0x21:  # extension
            at = _skip_gif_blocks(data, at + 2)
        else:
            raise CorruptImageError(CUT_SHORT)
    if frames == 0:
        raise CorruptImageError(f"the file holds no frame: {CUT_SHORT}")
    return Header("GIF", width, height, at + 1)


def _gif_palette_size(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_gif_blocks(data: bytes, at: int) -> int:
    while True:
        (length,) = _unpack("B", data, at)
        at += 1 + length
        if length == 0:
            return at


# --- WebP -----------------------------------------------------------------------------------------------------------


def _read_webp(data: bytes, max_pixels: int) -> Header:
    end = 8 + _unpack("<I", data, 4)[0]
    if end > len(data):
        raise CorruptImageError(f"{end - len(data):,} of {end:,} bytes are missing: {CUT_SHORT}")
    size: tuple[int, int] | None = None
    orientation = 1
    at = 12
    while at + 8 <= end:
        kind, length = _unpack("<4sI", data, at)
        body = data[at + 8 : min(at + 8 + length, end)]
        if len(body) < length:
            raise CorruptImageError(CUT_SHORT)
        found = _webp_size(kind, body)
        if found is not None:
            _check_size(*found, max_pixels)
            size = size or found  # the first one is the canvas
        elif kind == b"EXIF":
            orientation = _exif_orientation(body.removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    if size is None:
        raise CorruptImageError(f"the file holds no picture data: {CUT_SHORT}")
    return Header("WebP", *size, end, orientation)


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = _unpack("<HBHB", body, 4)
        return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    if kind == b"VP8 ":
        width, height = _unpack("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = _unpack("<I", body, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


# --- BMP ------------------------------------------------------------------------------------------------------------

_BMP_RUN_LENGTH_CODED = (1, 2)


def _read_bmp(data: bytes, max_pixels: int) -> Header:
    start, header_size = _unpack("<II", data, 10)
    if header_size < 40:
        width, height, _, depth = _unpack("<HHHH", data, 18)
        compression = stored = 0
    else:
        width, height, _, depth, compression, stored = _unpack("<iiHHII", data, 18)
    height = abs(height)  # negative: rows from top to bottom
    _check_size(width, height, max_pixels)
    if compression not in _BMP_RUN_LENGTH_CODED:
        stored = (width * depth + 31) // 32 * 4 * height  # rows are padded to four bytes
    if start + stored > len(data):
        raise CorruptImageError(f"{start + stored - len(data):,} bytes are missing: {CUT_SHORT}")
    return Header("BMP", width, height, len(data))


# --- TIFF and EXIF (which is a small TIFF) --------------------------------------------------------------------------

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_STRIP_OFFSETS, _STRIP_LENGTHS, _TILE_OFFSETS, _TILE_LENGTHS = 273, 279, 324, 325
_ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 274, 322, 323, 338, 339
_GREY_OR_RGB = (1, 2)
# None, CCITT (three kinds), LZW, JPEG, Deflate (two numbers), PackBits. For others OpenCV returns a black picture.
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32946, 32773}
_FLOAT, _STRAIGHT_ALPHA = 3, 2


class _Directory:
    """The first image file directory of a TIFF or BigTIFF: tag -> whole numbers."""

    _LAYOUTS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # noqa: RUF012  BYTE, SHORT, LONG, LONG8; others hold no whole numbers

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        (version,) = _unpack(self._order + "H", data, 2)
        self._word = "Q" if version == 43 else "I"  # 43: BigTIFF
        (at,) = _unpack(self._order + self._word, data, 8 if version == 43 else 4)
        (count,) = _unpack(self._order + ("Q" if version == 43 else "H"), data, at)
        at += 8 if version == 43 else 2
        self._entries: dict[int, tuple[int, int, int]] = {}
        entry = self._order + ("HHQ" if version == 43 else "HHI")
        for _ in range(count):
            tag, kind, values = _unpack(entry, data, at)
            at += struct.calcsize(entry)
            self._entries.setdefault(tag, (kind, values, at))  # of duplicates libtiff takes the first
            at += struct.calcsize(self._order + self._word)

    def values(self, tag: int) -> list[int]:
        """All values of a tag; none if it is absent or holds something else than whole numbers."""
        kind, count, at = self._entries.get(tag, (0, 0, 0))
        layout = self._LAYOUTS.get(kind)
        if layout is None:
            return []
        size = struct.calcsize(layout) * count
        if size > struct.calcsize(self._word):
            (at,) = _unpack(self._order + self._word, self._data, at)
        if at + size > len(self._data):
            raise CorruptImageError(CUT_SHORT)
        return [int(value) for value in np.frombuffer(self._data, f"{self._order}{layout}", count, at)]

    def value(self, tag: int, default: int) -> int:
        return next(iter(self.values(tag)), default)


def _exif_orientation(payload: bytes) -> int:
    """The orientation in an EXIF block; 1 (upright) where there is none or the block is broken: a picture is not
    refused for its metadata."""
    if payload[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    try:
        orientation = _Directory(payload).value(_ORIENTATION, 1)
    except CorruptImageError:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _read_tiff(data: bytes, max_pixels: int) -> Header:
    directory = _Directory(data)
    width, height = directory.value(_WIDTH, 0), directory.value(_HEIGHT, 0)
    _check_size(width, height, max_pixels)
    if directory.values(_TILE_WIDTH):
        _check_size(directory.value(_TILE_WIDTH, 0), directory.value(_TILE_HEIGHT, 0), max_pixels)

    bits, samples = max(directory.values(_BITS), default=1), directory.value(_SAMPLES, 1)
    if directory.value(_SAMPLE_FORMAT, 1) == _FLOAT or bits > 16:
        raise UnsupportedImageError(
            f"TIFFs with floating-point or {bits}-bit pixels are not supported; {CONVERT}, 8 bits per channel"
        )
    compression = directory.value(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise UnsupportedImageError(f"TIFFs with compression {compression} are not supported; {CONVERT}")
    if samples > 4:
        raise UnsupportedImageError(f"TIFFs with {samples} channels are not supported; {CONVERT}")
    if bits > 8 and directory.value(_PHOTOMETRIC, 1) not in _GREY_OR_RGB:
        raise UnsupportedImageError(f"TIFFs with more than 8 bits must be grey or RGB; {CONVERT}")

    for offsets, lengths in ((_STRIP_OFFSETS, _STRIP_LENGTHS), (_TILE_OFFSETS, _TILE_LENGTHS)):
        pieces = zip(directory.values(offsets), directory.values(lengths), strict=False)
        if any(start + length > len(data) for start, length in pieces):
            raise CorruptImageError(f"parts of the picture's data are missing: {CUT_SHORT}")
    # OpenCV itself applies a TIFF's orientation. Up to 8 bits it reads through libtiff's RGBA interface, which always
    # multiplies by alpha; 16 bits come as they are in the file.
    straight = bits > 8 and directory.value(_EXTRA_SAMPLES, 0) == _STRAIGHT_ALPHA
    return Header("TIFF", width, height, len(data), premultiplied=not straight)


_READERS: dict[str, Callable[[bytes, int], Header]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "GIF": _read_gif,
    "WebP": _read_webp,
    "BMP": _read_bmp,
    "TIFF": _read_tiff,
}
