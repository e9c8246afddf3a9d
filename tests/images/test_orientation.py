import struct
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionist.errors import CorruptImageError
from captionist.images import decode, squeeze
from tests.images.samples import SAMPLES, close, quadrants, save, smooth_noise

TO_ORIENTATION: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),  # stored turned to the left, to be shown turned back to the right
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", TO_ORIENTATION)
def test_exif_orientation_is_undone(format: str, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(TO_ORIENTATION[orientation](quadrants())))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert close(decode(save(stored, format, exif=exif.tobytes())), quadrants())


@pytest.mark.parametrize(("at_least", "part"), [(None, 1), (700, 1), (512, 1), (256, 2), (100, 4), (64, 8)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_decoded_no_larger_than_it_need_be(mode: str, at_least: int | None, part: int) -> None:
    picture = Image.fromarray(quadrants(600, 800)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = save(picture, "JPEG", quality=95, exif=exif)
    whole, decoded = decode(content), decode(content, at_least=at_least)
    assert decoded.shape == (800 // part, 600 // part, 3)
    assert close(decoded, squeeze(whole, decoded.shape[:2]), 12)


def test_a_large_jpeg_that_is_cut_is_refused_at_any_size() -> None:
    content = save(Image.fromarray(smooth_noise(600, 800)), "JPEG")
    for at_least in (256, 64):
        with pytest.raises(CorruptImageError, match="missing"):
            decode(content[: len(content) // 2] + b"\xff\xd9", at_least=at_least)


def test_broken_exif_is_no_reason_to_refuse_a_picture() -> None:
    jpeg = SAMPLES["jpeg"]
    for payload in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff"):
        body = b"Exif\0\0" + payload
        content = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + jpeg[2:]
        assert np.array_equal(decode(content), decode(jpeg))
