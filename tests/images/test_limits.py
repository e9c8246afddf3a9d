import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captionist.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from captionist.images import ImageLimits, decode
from harness.pictures import png_chunk, png_of_zeros
from tests.images.samples import SAMPLES, patched, tiff

HUGE = 30_000


def huge_files() -> dict[str, bytes]:
    jpeg = SAMPLES["jpeg"]
    webp_canvas = b"VP8X\x0a\0\0\0" + bytes(4) + 2 * (0xFFFFFF).to_bytes(3, "little")
    webp = b"WEBP" + webp_canvas + SAMPLES["webp"][12:]
    return {
        "jpeg": patched(jpeg, jpeg.index(b"\xff\xc0") + 5, ">HH", HUGE, HUGE),
        "png": png_of_zeros(HUGE, HUGE),
        "gif": patched(SAMPLES["gif"], 6, "<HH", HUGE, HUGE),
        "bmp": patched(SAMPLES["bmp"], 18, "<ii", HUGE, HUGE),
        "bmp-top-down": patched(SAMPLES["bmp"], 18, "<ii", HUGE, -HUGE),
        "webp": b"RIFF" + struct.pack("<I", len(webp)) + webp,
        "tiff": tiff(np.zeros((2, 2, 3), np.uint8), width=2**31),
        "thin": png_of_zeros(40_000_000, 1),
    }


@pytest.mark.parametrize("kind", huge_files())
def test_too_many_pixels_are_refused_from_the_header(kind: str) -> None:
    with pytest.raises(ImageTooLargeError, match="scale the picture down"):
        decode(huge_files()[kind])


def of_many_parts() -> dict[str, bytes]:
    """Small pictures in files of a few megabytes that are all header."""
    jpeg, png, gif = SAMPLES["jpeg"], SAMPLES["png"], SAMPLES["gif"]
    chunk, comment = png_chunk(b"teXt", b""), b"\x21\xfe" + b"\x01x" * 1_000_000 + b"\0"
    return {
        "jpeg, filled up": jpeg[:2] + b"\xff" * 2_000_000 + jpeg[2:],
        "jpeg, segments": jpeg[:2] + b"\xff\xe2\0\3x" * 400_000 + jpeg[2:],
        "png": png[:33] + chunk * 200_000 + png[33:],
        "png, data": png[:33] + png_chunk(b"IDAT", b"") * 200_000 + png[33:],
        "gif, a comment": gif[:13] + comment + gif[13:],
        "gif, extensions": gif[:13] + b"\x21\xf9\4\0\0\0\0\0" * 200_000 + gif[13:],
    }


@pytest.mark.parametrize("kind", of_many_parts())
def test_a_header_of_very_many_parts_is_not_walked_through(kind: str) -> None:
    """Each of these files would cost seconds; Pillow's first 50,000 reads do not."""
    with pytest.raises((UnsupportedImageError, CorruptImageError)):
        decode(of_many_parts()[kind])


@pytest.mark.parametrize("limit", [0, -1, float("nan"), 2.5, "5"])
@pytest.mark.parametrize("name", ["max_bytes", "max_pixels"])
def test_a_limit_is_a_whole_number(name: str, limit: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        ImageLimits(**{name: limit})


def test_limits_are_inclusive_and_named_with_the_actual_value(tmp_path: Path) -> None:
    png, pixels = SAMPLES["png"], 64 * 96
    decode(png, limits=ImageLimits(max_bytes=len(png), max_pixels=pixels))
    with pytest.raises(ImageTooLargeError, match=f"photo: 96 x 64 .* {pixels:,}, .* {pixels - 1:,}; .*max_pixels"):
        decode(png, limits=ImageLimits(max_pixels=pixels - 1), name="photo")
    path = tmp_path / "photo.png"
    path.write_bytes(png)
    for source in (png, path):
        with pytest.raises(ImageTooLargeError, match=f"{len(png):,} bytes .* {len(png) - 1:,}; .*max_bytes"):
            decode(source, limits=ImageLimits(max_bytes=len(png) - 1))


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ImageTooLargeError):
        decode(path)


def test_an_endless_device_is_read_no_further_than_the_limit() -> None:
    with pytest.raises(ImageTooLargeError):
        decode("/dev/zero", limits=ImageLimits(max_bytes=1000))


def test_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(SAMPLES["jpeg"],))
    writer.start()
    assert decode(path).shape == (64, 96, 3)
    writer.join()
