"""Small pictures in every format that is read, and what tells them apart."""

import io
import struct
from typing import Any

import cv2
import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

pillow_heif.register_heif_opener()  # which can write HEIC, too


def quadrants(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """Red and green above, blue and white below: tells channel order and every orientation apart."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = RED, GREEN
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = BLUE, WHITE
    return rgb


def smooth_noise(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """A picture with detail everywhere, so that every part of its file matters."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def save(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def close(actual: NDArray[np.uint8], expected: NDArray[np.uint8], tolerance: int = 6) -> bool:
    """Within a tolerance on average; lossy formats ring at edges."""
    difference = np.abs(actual.astype(int) - expected.astype(int))
    return actual.shape == expected.shape and float(difference.mean()) <= tolerance


def sample_files() -> dict[str, bytes]:
    picture = Image.fromarray(smooth_noise())
    palette, turned = picture.quantize(256), picture.quantize(256).rotate(180)
    deep = smooth_noise()[:, :, ::-1].astype(np.uint16) * 257
    return {
        "jpeg": save(picture, "JPEG"),
        "jpeg-progressive": save(picture, "JPEG", progressive=True),
        "jpeg-restarts": save(picture, "JPEG", restart_marker_rows=1),
        "png": save(picture, "PNG"),
        "png-palette": save(palette, "PNG"),
        "webp": save(picture, "WEBP"),
        "webp-lossless": save(picture, "WEBP", lossless=True),
        "webp-animated": save(picture, "WEBP", save_all=True, append_images=[picture.rotate(180)]),
        "gif": save(palette, "GIF"),
        "gif-animated": save(palette, "GIF", save_all=True, append_images=[turned]),
        "bmp": save(picture, "BMP"),
        "bmp-palette": save(palette, "BMP"),
        "tiff": save(picture, "TIFF"),
        "tiff-lzw": save(picture, "TIFF", compression="tiff_lzw"),
        "jpeg-2000": save(picture, "JPEG2000"),
        "avif": save(picture, "AVIF", quality=90),
        "heic": save(picture, "HEIF", quality=90),
        "tiff-16": cv2.imencode(".tiff", deep)[1].tobytes(),
    }


SAMPLES = sample_files()


def tiff(
    pixels: NDArray[Any],
    *,
    width: int | None = None,
    compression: int = 1,
    extra_samples: int = 0,
    sample_format: int = 1,
) -> bytes:
    """An uncompressed little-endian TIFF with one strip; the tags `width` and `compression` may lie."""
    data, (height, real_width, samples) = pixels.tobytes(), pixels.shape
    bits = b"".join(struct.pack("<H", 8 * pixels.itemsize) for _ in range(samples))
    tags = [(256, 4, width or real_width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 2)]
    tags += [(273, 4, 8 + len(bits)), (277, 3, samples), (278, 4, height), (279, 4, len(data))]
    tags += [(338, 3, extra_samples)] if samples == 4 else []
    tags += [(339, 3, sample_format)]
    entries = b"".join(
        struct.pack("<HHII", tag, kind, samples if tag == 258 else 1, value) for tag, kind, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(bits) + len(data)) + bits + data + directory


def patched(content: bytes, offset: int, layout: str, *values: int) -> bytes:
    return content[:offset] + struct.pack(layout, *values) + content[offset + struct.calcsize(layout) :]
