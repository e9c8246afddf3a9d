"""Picture files to pixels: every check on untrusted pictures happens on this way.

bytes, or where they lie -> `decode` -> upright RGB, uint8 [H, W, 3] -> `prepare` -> a model's input, float32 [3, h, w]
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from captionist.errors import CorruptImageError, EmptyImageError, ImageError, ImageNotFoundError, ImageTooLargeError
from captionist.image_formats import refuse_film
from captionist.image_headers import CUT_SHORT, GREY_OF_THREE, Header, read_header

# OpenCV logs every unreadable picture to stderr. We raise an error that says the same and names the file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# Ends inside the data of a JPEG's last scan look like this to the decoder: no marker, and no 0xFF that could start one.
_MORE_SCAN_DATA = bytes(range(200)) * 3

# libjpeg does less of the inverse transform where a part of the size will do.
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may cost. Both limits are checked before anything is decoded."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects its pixels to look like.

    `size` is (height, width) in pixels; `mean` and `std` are per channel (red, green, blue), for pixels of 0..1.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_DEFAULT_LIMITS = ImageLimits()
_START = 64
"""Bytes that tell a film."""

# (height, width) of what a detector reads: about as many pixels each, and sides that its strides divide.
_SCENES = ((256, 256), (256, 288), (288, 256), (224, 320), (320, 224), (192, 384), (384, 192))
SCENE_SIDE = 384
"""The longest side of what a detector reads, in pixels."""


class FilePartStat(NamedTuple):
    """What `FilePart.stat` tells: the part's size in bytes, and when its file was last changed."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file that lies whole in another one, such as a picture in a tar archive: `size` bytes from `offset` on.

    It has those of a Path's methods that a picture's reader needs, and opens `path` anew for each.
    """

    path: Path
    name: str
    """What it is called in there."""
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"

    @property
    def parent(self) -> Path:
        return self.path

    def resolve(self) -> Self:
        return replace(self, path=self.path.resolve())

    def stat(self) -> FilePartStat:
        return FilePartStat(self.size, self.path.stat().st_mtime_ns)

    def read_bytes(self) -> bytes:
        with self.path.open("rb", buffering=512) as file:  # a larger buffer would read what lies behind, too
            file.seek(self.offset)
            return file.read(self.size)


ImageFile = Path | FilePart
"""Where a picture lies on the disk."""


def decode(
    source: bytes | str | ImageFile,
    *,
    limits: ImageLimits = _DEFAULT_LIMITS,
    name: str | None = None,
    at_least: int | None = None,
) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP, BMP, TIFF or GIF (first frame), given as bytes, a path or a part of a file.

    Returns uint8 [H, W, 3], RGB, upright (EXIF orientation applied), transparency composited over white, 16 bits
    reduced to 8. `name` stands for the picture in error messages; by default its path or "<bytes>". Where no more than
    `at_least` pixels a side are needed, a large JPEG is decoded at a half, a quarter or an eighth of its size, which
    takes a fraction of the time; the limits hold for its whole size.

    Raises:
        ImageNotFoundError: no such file, a directory, or not readable.
        EmptyImageError: no bytes at all.
        NotAnImageError: text, a document, random data.
        UnsupportedImageError: a picture format, or a rare variant, that is not read.
        CorruptImageError: damaged or cut short; a picture is never returned in part.
        ImageTooLargeError: beyond `limits`.
    """
    label = name or ("<bytes>" if isinstance(source, bytes) else str(source))
    try:
        file = Path(source) if isinstance(source, str) else source
        data = file if isinstance(file, bytes) else read_file(file, limits)
        return _decode(data, limits, at_least)
    except ImageError as error:
        raise type(error)(f"{label}: {error}") from error.__cause__


def prepare(rgb: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Turn a picture, uint8 [H, W, 3] RGB, into a model's input: float32 [3, height, width], contiguous.

    The whole picture is squeezed to the model's size (its aspect ratio is lost, as it was in training) and normalised:
    (pixel / 255 - mean) / std. Raises ValueError for an array of another shape or type.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}; decode() gives the right kind")
    squeezed = squeeze(rgb, preprocessing.size)
    scale = 1 / (255 * np.array(preprocessing.std, np.float32))
    shift = np.array(preprocessing.mean, np.float32) / np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray((squeezed * scale - shift).transpose(2, 0, 1), np.float32)


def squeeze(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize the whole picture, uint8 [H, W, 3], to `size` (height, width); its aspect ratio is lost."""
    height, width = size
    # Shrinking averages over the area of each new pixel, so that fine texture does not alias. It comes first and on its
    # own, because OpenCV averages only where no axis grows.
    smaller = min(height, rgb.shape[0]), min(width, rgb.shape[1])
    if smaller != rgb.shape[:2]:
        rgb = _uint8(cv2.resize(rgb, smaller[::-1], interpolation=cv2.INTER_AREA))
    # Enlarging is linear: unlike cubic it makes no bright or dark rims that were not in the picture.
    if size != rgb.shape[:2]:
        rgb = _uint8(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR))
    return rgb


def scene_shape(height: int, width: int) -> tuple[int, int]:
    """(height, width) that a picture of this size is squeezed to for a detector, which needs shapes kept: of a few
    shapes, the one whose aspect ratio is nearest."""
    return min(_SCENES, key=lambda scene: abs(math.log(scene[0] * width / (scene[1] * height))))


def thumbnail(rgb: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """A picture, uint8 [H, W, 3], in its own shape with at most `max_side` pixels a side; never enlarged."""
    scale = min(1.0, max_side / max(rgb.shape[:2]))
    return squeeze(rgb, (max(round(rgb.shape[0] * scale), 1), max(round(rgb.shape[1] * scale), 1)))


def encode_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, 3], RGB, as the bytes of a JPEG file without metadata."""
    return cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def read_file(path: ImageFile, limits: ImageLimits = _DEFAULT_LIMITS) -> bytes:
    """All bytes of a picture file. Raises ImageNotFoundError, or ImageTooLargeError before it reads too much."""
    try:
        if isinstance(path, FilePart):
            if path.size > limits.max_bytes:
                check_bytes(path.size, limits, replace(path, size=_START).read_bytes())
            return path.read_bytes()
        if path.is_dir():
            raise ImageNotFoundError("this is a directory; give the path of a picture")
        with path.open("rb") as file:
            size = path.stat().st_size
            # Pipes and devices have no size, so the reading is bounded too.
            data = file.read(limits.max_bytes + 1 if size <= limits.max_bytes else _START)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageNotFoundError(f"cannot be read ({reason}); check the path and its permissions") from error
    check_bytes(max(size, len(data)), limits, data)
    return data


def check_bytes(count: int, limits: ImageLimits = _DEFAULT_LIMITS, start: bytes = b"") -> None:
    """Raises ImageTooLargeError for a file of so many bytes, if that is too many; NotAnImageError, if its first bytes
    are those of a film, which nobody can scale down."""
    if count > limits.max_bytes:
        refuse_film(start)
        raise ImageTooLargeError(
            f"{count:,} bytes are more than the limit of {limits.max_bytes:,}; "
            "scale the picture down, or raise the limit (--max-bytes, in Python ImageLimits.max_bytes)"
        )


def _decode(data: bytes, limits: ImageLimits, at_least: int | None) -> NDArray[np.uint8]:
    if not data:
        raise EmptyImageError("the file is empty (0 bytes); fetch or export it again")
    check_bytes(len(data), limits, data)
    header = read_header(data, limits.max_pixels)
    flags = _flags(header, at_least)
    pixels = _decode_pixels(data[: header.end], header, flags)
    if header.lost_greys:
        _check_jpeg_is_whole(data, header, pixels, flags)
    if header.transparent_grey is not None and pixels.ndim == 2:
        level = round(header.transparent_grey * np.iinfo(pixels.dtype).max)
        pixels[pixels == level] = np.iinfo(pixels.dtype).max
    return _upright(_to_rgb(_to_8_bits(pixels), header.premultiplied), header.orientation)


def _flags(header: Header, at_least: int | None) -> int:
    """How OpenCV should decode it: with nothing converted, or a JPEG in grey or colour at a part of its size."""
    if at_least is not None and header.lost_greys == GREY_OF_THREE:
        for part, flag in _REDUCED.items():
            if min(header.width, header.height) // part >= at_least:
                return flag | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.IMREAD_UNCHANGED


def _decode_pixels(data: bytes, header: Header, flags: int) -> NDArray[np.uint8 | np.uint16]:
    """[H, W] grey, [H, W, 3] BGR or [H, W, 4] BGRA, of 8 or 16 bits."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(header) from error
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise _undecodable(header)
    return pixels  # type: ignore[return-value]


def _undecodable(header: Header) -> CorruptImageError:
    return CorruptImageError(
        f"its {header.format} data cannot be decoded: the file is damaged, or of a rare kind; "
        "open it in a picture editor and save it again as JPEG or PNG"
    )


def _check_jpeg_is_whole(data: bytes, header: Header, pixels: NDArray[np.uint8 | np.uint16], flags: int) -> None:
    """Refuse a JPEG that stops early although an end-of-image marker follows.

    libjpeg paints what is missing in mid-grey, and the last pixel is missing first. A grey last pixel may be genuine,
    though; then data put behind the last scan changes nothing, while it would fill a gap. (In a progressive JPEG this
    sees only a cut in its first scan; `read_header` has counted the others. A cut inside the very last one, which
    brings the finest bit of detail, is not noticed.)
    """
    if not any((pixels[-1, -1] == grey).all() for grey in header.lost_greys):
        return
    end_of_image = header.end - 2
    longer = data[:end_of_image] + _MORE_SCAN_DATA + data[end_of_image : header.end]
    if not np.array_equal(_decode_pixels(longer, header, flags), pixels):
        raise CorruptImageError(f"the picture's lower part is missing: {CUT_SHORT}")


def _to_8_bits(pixels: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint16:
        return _uint8(cv2.convertScaleAbs(pixels, alpha=1 / 257))  # rounds; 65535 / 257 = 255
    return _uint8(pixels)


def _to_rgb(pixels: NDArray[np.uint8], premultiplied: bool) -> NDArray[np.uint8]:
    if pixels.ndim == 2:
        return _uint8(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))
    if pixels.shape[2] == 3:
        return _uint8(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    colour = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    alpha = cv2.cvtColor(pixels[:, :, 3], cv2.COLOR_GRAY2RGB)
    if not premultiplied:
        colour = cv2.multiply(colour, alpha, scale=1 / 255)
    return _uint8(cv2.add(colour, cv2.bitwise_not(alpha)))  # over white


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation: 2 to 4 mirror or turn, 5 to 8 also swap rows and columns."""
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


def _uint8(pixels: object) -> NDArray[np.uint8]:
    """Give OpenCV's loosely typed arrays their type; a view, not a copy, for what is uint8 already."""
    return np.asarray(pixels, np.uint8)
