"""Which format a picture file is in, told from its first bytes; its name and extension do not matter."""

import re

from captionist.errors import NotAnImageError, UnsupportedImageError

CONVERT = "convert it to JPEG or PNG"

_READ = (
    (rb"\xff\xd8", "JPEG"),
    (rb"\x89PNG", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF.{4}WEBP", "WebP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    # A text may begin with "BM", too, so the size of the second header must make sense as well.
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
)
_NOT_READ = (
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"II\xbc\x01", "JPEG XR"),
    (rb"8BPS", "Photoshop (PSD)"),
    (rb"\0\0\x01\0", "icon (ICO)"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"#\?R(ADIANC|GB)E", "Radiance HDR"),
    (rb"(?i).{0,1000}<svg", "SVG"),
)
_FILMS = (
    (rb".{4}(ftyp|moov|mdat|wide)", "MP4 or QuickTime"),
    (rb"RIFF.{4}AVI ", "AVI"),
    (rb"\x1aE\xdf\xa3", "Matroska or WebM"),
    (rb"FLV\x01", "Flash"),
    (rb"\0\0\x01[\xba\xb3]", "MPEG"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (rb"OggS", "Ogg"),
)
_OTHERS = (
    (rb"%PDF", "a PDF document"),
    (rb"(?i)[\xef\xbb\xbf \t\r\n]*(<!doctype html|<html)", "an HTML page"),
    (rb"[^\0-\x08\x0e-\x1f]*\Z", "text"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_START = 1024  # bytes that are looked at


def identify(data: bytes) -> str:
    """The format of a picture file: JPEG, PNG, GIF, WebP, TIFF, JPEG 2000, BMP, AVIF or HEIC.

    Raises UnsupportedImageError, naming the format, for pictures of other kinds, and NotAnImageError for the rest.
    """
    known = _first(_READ, data) or _of_boxes(data)
    if known:
        return known
    if unsupported := _first(_NOT_READ, data):
        raise UnsupportedImageError(f"{unsupported} pictures are not supported; {CONVERT}")
    refuse_film(data)
    raise NotAnImageError(
        f"this is not a picture but {_first(_OTHERS, data) or 'data of an unknown kind'}; "
        "give a JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF, BMP or JPEG 2000 file"
    )


def refuse_film(data: bytes) -> None:
    """Raises NotAnImageError if these are the first bytes of a video."""
    film = None if _of_boxes(data) else _first(_FILMS, data)
    if film:
        raise NotAnImageError(f"this is not a picture but video or audio ({film}); save a frame of it as JPEG or PNG")


def _first(table: tuple[tuple[bytes, str], ...], data: bytes) -> str | None:
    return next((name for pattern, name in table if re.match(pattern, data[:_START], re.DOTALL)), None)


def _of_boxes(data: bytes) -> str | None:
    """AVIF and HEIC use the same boxes as videos; their brands tell them apart."""
    if data[4:8] != b"ftyp":
        return None
    brands = {data[at : at + 4] for at in range(8, min(int.from_bytes(data[:4], "big"), 256), 4)}
    return "AVIF" if brands & {b"avif", b"avis"} else "HEIC" if brands & _HEIC_BRANDS else None
