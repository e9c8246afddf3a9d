"""From a picture file's bytes to pixels. Pillow opens and decodes; what it leaves open is settled here."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from threading import Lock
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from captionist.errors import CorruptImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from captionist.formats import CONVERT, identify
from captionist.jpeg import CUT_SHORT, read_jpeg

# A picture is read or refused; OpenCV's logs and Pillow's warnings about odd metadata add nothing to that.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
for category in (UserWarning, Image.DecompressionBombWarning):
    warnings.filterwarnings("ignore", category=category, module=r"PIL\.")

# Listed one by one, so that no other format that Pillow reads gets in. `Image.open` would also apply one limit for the
# whole program; ours comes with each picture.
_OPENERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WebP": WebPImageFile,
    "TIFF": TiffImageFile,
    "JPEG 2000": Jpeg2KImageFile,
    "BMP": BmpImageFile,
    "AVIF": AvifImageFile,
}
_MOST_READS = 50_000
"""Reads of one file by Pillow; a sound picture needs hundreds. Pillow walks through headers in Python, part by part,
and a small file can have millions of parts.
"""
MAX_SIDE = 1_000_000
"""Pixels; OpenCV resizes with coordinates in float32."""
_LOADING = Lock()  # threads that share a picture would each have Pillow load it, into the same memory
_SRGB = ImageCms.createProfile("sRGB")
_LAB = ImageCms.createProfile("LAB")
_LOST_GREYS = (127, 128)
"""The grey levels that libjpeg paints where data is missing; inverted inks turn one into the other."""
_WHITE = (255, 255, 255)
_CLEAR = (0, 0, 0, 0)
# How to turn a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Frugal(BytesIO):
    """A file that can be read from only so many times."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise ValueError("more parts than a picture has")
        return super().read(size)


def decode(data: bytes, max_pixels: int, at_least: int | None = None) -> NDArray[np.uint8]:
    """The bytes of a picture file as uint8 [H, W, 3]; see `images.decode`, also for what is raised.

    Of an animation, this is the first frame that a browser would show.
    """
    kind = identify(data)
    jpeg = read_jpeg(data) if kind == "JPEG" else None
    opened = partial(_open, kind, max_pixels=max_pixels, at_least=at_least)
    if jpeg is None:
        if kind == "PNG":
            check_png(data)
        return pixels(opened(data), at_least)
    picture = opened(jpeg.whole(data))
    # libjpeg paints what is missing mid-grey, and the last pixel is the first to be missing. But that pixel may really
    # be grey; then more scan data changes nothing. (If an end marker was appended, a cut inside the last block goes
    # unnoticed, as does one inside a progressive JPEG's last scan, which holds the finest detail.)
    last = picture.getpixel((picture.width - 1, picture.height - 1))
    levels = set(last) if isinstance(last, tuple) else {last}
    doubtful = jpeg.end == jpeg.scans_end or levels <= set(_LOST_GREYS)
    if doubtful and picture.tobytes() != opened(jpeg.longer(data)).tobytes():
        raise CorruptImageError(f"the picture's lower part is missing: {CUT_SHORT}")
    return pixels(picture, at_least)


def pixels(picture: Image.Image, at_least: int | None = None) -> NDArray[np.uint8]:
    """A loaded Pillow picture as uint8 [H, W, 3]: sRGB, upright (EXIF orientation applied), transparency over white.

    If `at_least` pixels a side are enough, it is shrunk by a whole factor that leaves at least as many. Raises
    UnsupportedImageError for a mode that has no fixed white (32-bit and floating-point pixels).
    """
    with _refusing(picture.format or "image"):
        orientation = _orientation(picture)
        profile = picture.info.get("icc_profile")
        picture = _common(picture)
    if at_least is not None and (factor := min(picture.size) // at_least) > 1:
        picture = picture.reduce(factor)
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    picture = _srgb(picture, profile)
    if alpha is not None:
        white = Image.new("RGB", picture.size, _WHITE)
        white.paste(picture, mask=alpha)
        picture = white
    if orientation in _TURNS:
        picture = picture.transpose(_TURNS[orientation])
    return np.array(picture)


def load(picture: Image.Image) -> None:
    """Load a picture that may be shared by threads. Raises CorruptImageError if it cannot be decoded."""
    with _LOADING, _refusing(picture.format or "image"):
        picture.load()
        _orientation(picture)  # Pillow reads this only once, too, and keeps it


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raises ImageTooLargeError for a picture (width, height) of more pixels, CorruptImageError for one of none."""
    width, height = size
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


def check_png(data: bytes) -> int:
    """Where a PNG ends. Raises CorruptImageError if the checksum of a necessary part is wrong.

    Pillow does not compare checksums, but it notices missing parts.
    """
    at, kind, parts = 8, b"", 0
    while kind != b"IEND" and at + 12 <= len(data):
        parts += 1
        if parts > _MOST_READS:
            raise CorruptImageError(f"a PNG of more than {_MOST_READS:,} parts is not supported; {CONVERT}")
        length, kind = struct.unpack_from(">I4s", data, at)
        body = memoryview(data)[at + 4 : at + 8 + length]
        at += 12 + length
        if kind[:1].isupper() and at <= len(data) and zlib.crc32(body) != int.from_bytes(data[at - 4 : at], "big"):
            raise CorruptImageError(f"a checksum does not match: {CUT_SHORT}")
    return at


def _open(kind: str, data: bytes, max_pixels: int, at_least: int | None) -> Image.Image:
    """A decoded picture, still in its own mode."""
    with _refusing(kind):
        picture = _opener(kind)(_Frugal(data))
    check_size(picture.size, max_pixels)
    with _refusing(kind):
        if isinstance(picture, JpegImageFile) and at_least is not None:
            picture.draft(None, (at_least, at_least))
        if isinstance(picture, Jpeg2KImageFile) and at_least is not None:
            _reduce(picture, data, at_least)
        if isinstance(picture, PngImageFile):
            return _png(picture, data)
        if isinstance(picture, GifImageFile):
            return _gif(picture)
        if isinstance(picture, WebPImageFile) and not picture.is_animated:
            return _webp(picture, data, at_least)
        picture.load()
    return picture


def _opener(kind: str) -> type[ImageFile]:
    if kind == "HEIC":
        from pi_heif import HeifImageFile  # imported only when needed

        return cast("type[ImageFile]", HeifImageFile)
    return _OPENERS[kind]


@contextmanager
def _refusing(kind: str) -> Iterator[None]:
    """Turn whatever Pillow raises into CorruptImageError: its plugins raise all kinds of errors for damaged files."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError("it has more pixels than Pillow allows; scale the picture down") from error
    except Exception as error:
        raise CorruptImageError(
            f"its {kind} data cannot be decoded: parts are missing, or it is damaged or of a rare kind; "
            f"fetch or export it again, or {CONVERT}"
        ) from error


def _reduce(picture: Jpeg2KImageFile, data: bytes, at_least: int) -> None:
    """Decode no more of a JPEG 2000 than needed: each level left out (the COD marker counts them) halves the sides."""
    marker = data.find(b"\xff\x52\0")
    levels = data[marker + 9] if 0 <= marker < len(data) - 9 else 0
    picture.reduce = min(levels, max((min(picture.size) // at_least).bit_length() - 1, 0))


def _gif(picture: GifImageFile) -> Image.Image:
    """The first frame; the part of the canvas that it does not cover is transparent, as in browsers."""
    box = picture.tile[0].extents if picture.tile else None
    picture.load()
    if box is None or box == (0, 0, *picture.size):
        return picture
    canvas = Image.new("RGBA", picture.size, _CLEAR)
    canvas.paste(picture.convert("RGBA").crop(box), box)
    return canvas


def _png(picture: PngImageFile, data: bytes) -> Image.Image:
    """The first frame, with its transparent colour corrected: Pillow keeps that as stored in the file."""
    if picture.default_image:  # only programs that cannot show the animation show this frame
        picture.seek(1)
    raw = str(picture.tile[0].args) if picture.tile else ""
    picture.load()
    clear = picture.info.get("transparency")
    if isinstance(clear, int) and raw in ("L;2", "L;4"):
        picture.info["transparency"] = clear * 255 // (2 ** int(raw[-1]) - 1)
    if isinstance(clear, tuple) and raw == "RGB;16B":
        low = PngImageFile(BytesIO(data))
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]  # the low byte of each level
        low.load()
        upper, lower = np.divmod(clear, 256)
        opaque = (np.asarray(picture) != upper).any(axis=2) | (np.asarray(low) != lower).any(axis=2)
        picture.info.pop("transparency")
        picture.putalpha(Image.fromarray(opaque))
    return picture


def _webp(picture: WebPImageFile, data: bytes, at_least: int | None) -> Image.Image:
    """One frame, by OpenCV: Pillow treats it as an animation, which takes three times the memory and twice the time."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ValueError("not decoded")
    if decoded.shape[2] == 3 and at_least is not None and (factor := min(picture.size) // at_least) > 1:
        size = -(-picture.width // factor), -(-picture.height // factor)
        decoded = cv2.resize(decoded, size, interpolation=cv2.INTER_AREA)
    frame = Image.fromarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA if decoded.shape[2] == 4 else cv2.COLOR_BGR2RGB))
    frame.info.update(picture.info)
    return frame


def _common(picture: Image.Image) -> Image.Image:
    """The same picture in one of a few 8-bit modes: L, LA, RGB, RGBA or CMYK."""
    mode = picture.mode
    if mode.startswith("I;16"):
        levels = np.asarray(picture).astype(np.uint16)
        grey = Image.fromarray(cv2.convertScaleAbs(levels, alpha=1 / 257))  # rounds; 65535 / 257 = 255
        if isinstance(clear := picture.info.get("transparency"), int):
            grey.putalpha(Image.fromarray(levels != clear))
        return grey
    if mode in ("I", "F"):
        raise UnsupportedImageError(f"pictures with floating-point or 32-bit pixels are not supported; {CONVERT}")
    if mode in ("La", "RGBa"):  # multiplied by alpha
        return picture.convert(mode.upper())
    if picture.has_transparency_data:
        return picture if mode in ("LA", "RGBA") else picture.convert("RGBA")
    if mode == "LAB":
        transform = ImageCms.buildTransform(_LAB, _SRGB, "LAB", "RGB")
        return cast("Image.Image", ImageCms.applyTransform(picture, transform))
    return picture if mode in ("L", "RGB", "CMYK") else picture.convert("L" if mode == "1" else "RGB")


def _srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in sRGB, without alpha, converted by its colour profile; a broken profile is ignored."""
    if picture.mode in ("LA", "RGBA"):
        picture = picture.convert(picture.mode[:-1])
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            meant = ImageCms.ImageCmsProfile(BytesIO(profile))
            if not ImageCms.getProfileDescription(meant).startswith("sRGB"):
                transform = ImageCms.buildTransform(meant, _SRGB, picture.mode, "RGB")
                return cast("Image.Image", ImageCms.applyTransform(picture, transform))
    return picture.convert("RGB")


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if the EXIF data is broken: no picture is refused for its metadata."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1
