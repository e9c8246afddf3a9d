import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from captionist.errors import ImageTooLargeError
from captionist.images import ImageLimits, decode
from harness.pictures import png_of_zeros
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
