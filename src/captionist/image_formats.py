"""Which format a file is in, told from its first bytes; its name and extension are not looked at."""

import re
import struct

from captionist.errors import NotAnImageError, UnsupportedImageError

CONVERT = "convert it to JPEG or PNG"

_MAGIC = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_UNSUPPORTED_MAGIC = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"\0\0\1\0", "icon (ICO)"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
)
_FILM_MAGIC = (
    (b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (b"FLV\1", "Flash"),
    (b"\0\0\1\xba", "MPEG"),
    (b"\0\0\1\xb3", "MPEG"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (b"OggS", "Ogg"),
)
_FILM_BOXES = {b"ftyp", b"moov", b"mdat", b"wide"}  # of MP4, QuickTime, 3GP
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}


def identify(data: bytes) -> str:
    """Tell the format of a picture file from its first bytes: JPEG, PNG, GIF, TIFF, WebP or BMP.

    Raises UnsupportedImageError, naming the format, for pictures of other kinds, and NotAnImageError for the rest.
    """
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    # "BM" alone is too little to tell a bitmap from a text: the size of the second header must make sense too.
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADER_SIZES:
        return "BMP"
    unsupported = _unsupported_format(data)
    if unsupported is not None:
        raise UnsupportedImageError(f"{unsupported} pictures are not supported; {CONVERT}")
    refuse_film(data)
    raise NotAnImageError(
        f"this is not a picture but {_guess_kind(data)}; give a JPEG, PNG, WebP, BMP, TIFF or GIF file"
    )


def refuse_film(data: bytes) -> None:
    """Raises NotAnImageError where these are the first bytes of a film."""
    if data[4:8] in _FILM_BOXES and _unsupported_format(data) is None:
        film = "MP4 or QuickTime"
    elif data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        film = "AVI"
    else:
        film = next((name for magic, name in _FILM_MAGIC if data.startswith(magic)), "")
    if film:
        raise NotAnImageError(f"this is no picture but a film or a sound ({film}); save a frame of it as JPEG or PNG")


def _unsupported_format(data: bytes) -> str | None:
    for magic, name in _UNSUPPORTED_MAGIC:
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        brands = {data[at : at + 4] for at in range(8, min(int.from_bytes(data[:4], "big"), 256), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
    if b"<svg" in data[:1024].lower():
        return "SVG"
    return None


def _guess_kind(data: bytes) -> str:
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"%pdf"):
        return "a PDF document"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if not re.search(rb"[\0-\x08\x0e-\x1f]", start):
        return "text"
    return "data of an unknown kind"
