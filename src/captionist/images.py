"""Picture files to pixels; every check on untrusted pictures happens here.

bytes, or where they are -> `decode` -> upright RGB, uint8 [H, W, 3] -> `prepare` -> a model's input, float32 [3, h, w]
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionist import decoding
from captionist.errors import EmptyImageError, ImageError, ImageNotFoundError, ImageTooLargeError
from captionist.formats import refuse_film


@dataclass(frozen=True)
class ImageLimits:
    """The largest picture that is accepted. Both limits are checked before anything is decoded."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        for name, limit in (("max_bytes", self.max_bytes), ("max_pixels", self.max_pixels)):
            if not isinstance(limit, int) or limit < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, but it is {limit!r}")


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects its pixels to look like.

    `size` is (height, width) in pixels; `mean` and `std` are per channel (red, green, blue), for pixels of 0..1;
    `resampling` and `resized` as in `bundle.ImageConfig`.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resampling: str = "area"
    resized: int | tuple[int, int] | None = None


_DEFAULT_LIMITS = ImageLimits()
_START = 64
"""Bytes that identify a video."""

# Sizes (height, width) that a detector reads: each has about as many pixels, and sides divisible by its strides.
_SCENES = ((256, 256), (256, 288), (288, 256), (224, 320), (320, 224), (192, 384), (384, 192))
_RIBBON = 16
"""A picture is a ribbon if one side is longer than this many of the other."""
SCENE_SIDE = 384
"""The longest side of what a detector reads, in pixels."""


class FilePartStat(NamedTuple):
    """What `FilePart.stat` tells: the part's size in bytes, and when its file was last changed."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file stored whole inside another one, such as a picture in a tar archive: `size` bytes from `offset` on.

    It has the methods of a Path that reading a picture needs, and opens `path` anew each time.
    """

    path: Path
    name: str
    """Its name in that file."""
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
        with self.path.open("rb", buffering=512) as file:  # a larger buffer would read what follows, too
            file.seek(self.offset)
            return file.read(self.size)


ImageFile = Path | FilePart
"""Where a picture is on disk."""
ImageInput = (
    str | os.PathLike[str] | FilePart | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]
)
"""A path, the bytes of a picture file, such a file opened as binary, a Pillow image, or uint8 [H, W] (grey),
[H, W, 3] (RGB) or [H, W, 4] (RGBA)."""
INPUTS = (
    "a picture is given as a path, the bytes of its file, a file opened as binary, a Pillow image, or an array uint8 "
    "[H, W], [H, W, 3] in RGB order or [H, W, 4] in RGBA order"
)


def decode(
    source: ImageInput,
    *,
    limits: ImageLimits = _DEFAULT_LIMITS,
    name: str | None = None,
    at_least: int | None = None,
) -> NDArray[np.uint8]:
    """Any picture as pixels: uint8 [H, W, 3], RGB, contiguous.

    The result is in sRGB (colour profiles are applied), upright (EXIF orientation is applied), with transparency over
    white and 16 bits reduced to 8. Files may be JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF, BMP or JPEG 2000; of an
    animation, the first frame is used. `name` stands for the picture in error messages; by default it is its path,
    "<bytes>" or the like. If no more than `at_least` pixels a side are needed, a large picture is scaled down while it
    is decoded, which takes a fraction of the time and memory; the limits apply to its full size.

    Raises:
        ImageNotFoundError: no such file, a directory, or not readable.
        EmptyImageError: no bytes at all.
        NotAnImageError: text, a document, random data.
        UnsupportedImageError: a picture format, or a rare variant, that is not supported.
        CorruptImageError: damaged or cut short; a picture is never returned in part.
        ImageTooLargeError: beyond `limits`.
        TypeError: something other than an `ImageInput`.
    """
    try:
        if isinstance(source, Image.Image):
            decoding.check_size(source.size, limits.max_pixels)
            decoding.load(source)
            return decoding.pixels(source, at_least)
        if isinstance(source, np.ndarray):
            return _from_array(source, limits)
        data = _read(source, limits)
        if not data:
            raise EmptyImageError("there is nothing to read (0 bytes): fetch or export the picture again")
        check_bytes(len(data), limits, data)
        return decoding.decode(data, limits.max_pixels, at_least)
    except ImageError as error:
        raise type(error)(f"{name or label(source)}: {error}") from error.__cause__


def label(source: object) -> str:
    """What error messages call a picture."""
    if isinstance(source, str | os.PathLike | FilePart):
        return os.fsdecode(source) if isinstance(source, os.PathLike) else str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    return "<array>" if isinstance(source, np.ndarray) else "<image>" if isinstance(source, Image.Image) else "<file>"


def reason(error: ImageError, source: object) -> str:
    """An error's message without the name that `decode` puts before it."""
    return str(error).removeprefix(f"{label(source)}: ")


def is_one(source: object) -> bool:
    """Whether this is a picture, and not several of them."""
    one = isinstance(source, str | os.PathLike | FilePart | bytes | bytearray | memoryview | Image.Image)
    return one or hasattr(source, "read") or (isinstance(source, np.ndarray) and source.ndim < 4)


def _read(source: ImageInput, limits: ImageLimits) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return read_file(Path(source), limits)
    if isinstance(source, FilePart):
        return read_file(source, limits)
    if not callable(getattr(source, "read", None)):
        raise TypeError(f"{INPUTS}, not {type(source).__name__}")
    return _read_open(source, limits)


def _read_open(file: Any, limits: ImageLimits) -> bytes:
    """The rest of an open file, in as many reads as it takes."""
    data = bytearray()
    while len(data) <= limits.max_bytes:
        try:
            more = file.read(limits.max_bytes + 1 - len(data))
        except Exception as error:  # the file object may be anybody's
            raise ImageNotFoundError(f"cannot be read ({str(error) or type(error).__name__}): open it again") from error
        if not isinstance(more, bytes):
            what = "a file that was opened as text" if isinstance(more, str) else f"a file of {type(more).__name__}"
            raise TypeError(f"{INPUTS}, not {what}")
        if not more:
            break
        data += more
    return bytes(data)


def _from_array(array: NDArray[np.uint8], limits: ImageLimits) -> NDArray[np.uint8]:
    if (
        array.dtype != np.uint8
        or array.size == 0
        or array.ndim not in (2, 3)
        or array.shape[2:] not in ((), (3,), (4,))
    ):
        raise TypeError(f"{INPUTS}, not an array of {array.dtype} {list(array.shape)}")
    decoding.check_size((array.shape[1], array.shape[0]), limits.max_pixels)
    return array if array.ndim == 3 and array.shape[2] == 3 else decoding.pixels(Image.fromarray(array))


def prepare(rgb: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Turn a picture, uint8 [H, W, 3] RGB, into a model's input: float32 [3, height, width], contiguous.

    The whole picture is squeezed to the model's size (its aspect ratio is lost, as it was in training), or resized and
    cropped as an imported model expects, and normalised: (pixel / 255 - mean) / std. Raises ValueError for an array of
    another shape or type.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}; decode() gives the right kind")
    ours = preprocessing.resampling == "area"
    squeezed = squeeze(rgb, preprocessing.size) if ours else _resize(rgb, preprocessing)
    scale = 1 / (255 * np.array(preprocessing.std, np.float32))
    shift = np.array(preprocessing.mean, np.float32) / np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray((squeezed * scale - shift).transpose(2, 0, 1), np.float32)


def squeeze(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize the whole picture, uint8 [H, W, 3], to `size` (height, width); its aspect ratio is lost."""
    height, width = size
    # Shrinking averages over the area of each new pixel, so that fine texture does not alias. It comes first and
    # separately, because OpenCV averages only if no axis grows.
    smaller = min(height, rgb.shape[0]), min(width, rgb.shape[1])
    if smaller != rgb.shape[:2]:
        rgb = _uint8(cv2.resize(rgb, smaller[::-1], interpolation=cv2.INTER_AREA))
    # Enlarging is linear: cubic would add bright or dark rims.
    if size != rgb.shape[:2]:
        rgb = _uint8(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR))
    return rgb


def _resize(rgb: NDArray[np.uint8], wanted: Preprocessing) -> NDArray[np.uint8]:
    """Resize as transformers' image processors do, to the last bit."""
    resized = wanted.resized or wanted.size
    if isinstance(resized, int):
        # The ends of a ribbon would be enlarged to gigabytes and then cropped, so they are cropped first.
        most = _RIBBON * min(rgb.shape[:2])
        rgb = np.ascontiguousarray(centre(rgb, (min(rgb.shape[0], most), min(rgb.shape[1], most))))
        short, long = sorted(rgb.shape[:2])
        longer = int(resized * long / short)
        resized = (longer, resized) if rgb.shape[0] > rgb.shape[1] else (resized, longer)
    picture = Image.fromarray(rgb).resize(resized[::-1], Image.Resampling[wanted.resampling.upper()])
    return centre(np.asarray(picture), wanted.size)


def centre(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of a picture, uint8 [H, W, 3], of size (height, width); a view."""
    top, left = ((whole - part) // 2 for whole, part in zip(rgb.shape, size, strict=False))
    return rgb[top : top + size[0], left : left + size[1]]


def scene_shape(height: int, width: int) -> tuple[int, int]:
    """The (height, width) to which a picture of this size is squeezed for a detector: of a few shapes, the one with the
    nearest aspect ratio, since a detector needs shapes preserved.
    """
    return min(_SCENES, key=lambda scene: abs(math.log(scene[0] * width / (scene[1] * height))))


def thumbnail(rgb: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """A picture, uint8 [H, W, 3], in its own aspect ratio with at most `max_side` pixels a side; never enlarged."""
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
            # Pipes and devices have no size, so what is read is limited, too.
            data = file.read(limits.max_bytes + 1 if size <= limits.max_bytes else _START)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageNotFoundError(f"cannot be read ({reason}); check the path and its permissions") from error
    check_bytes(max(size, len(data)), limits, data)
    return data


def check_bytes(count: int, limits: ImageLimits = _DEFAULT_LIMITS, start: bytes = b"") -> None:
    """Raise ImageTooLargeError for a file of too many bytes; NotAnImageError if its first bytes are those of a video,
    which nobody can scale down.
    """
    if count > limits.max_bytes:
        refuse_film(start)
        raise ImageTooLargeError(
            f"{count:,} bytes are more than the limit of {limits.max_bytes:,}; "
            "scale the picture down, or raise the limit (--max-bytes, in Python ImageLimits.max_bytes)"
        )


def _uint8(pixels: object) -> NDArray[np.uint8]:
    """Give OpenCV's loosely typed arrays their type; a view, not a copy, of what is already uint8."""
    return np.asarray(pixels, np.uint8)
