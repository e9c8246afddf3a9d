"""Photographs, and bad files as a captioner meets them, each of which it must refuse with one clear error."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples"


def photographs(folder: Path, count: int = 64) -> list[bytes]:
    """The examples (large), followed by photographs from a folder (small) if there is one, alternating."""
    large = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))[:count]]
    small = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[: count - len(large)]]
    if not small:
        return large
    every = len(small) // len(large)  # so that neither kind comes in a row
    mixed: list[bytes] = []
    for place, picture in enumerate(large):
        mixed += [picture, *small[place * every : (place + 1) * every]]
    return mixed + small[len(large) * every :]


def write_hostile(folder: Path) -> dict[str, Path]:
    """Write hostile files into an existing folder; returns their paths by kind:

    corrupt (JPEG start, then rubbish), empty (0 bytes), text (prose named .jpg), bomb (a valid PNG of 30,000 x 30,000
    pixels in about 100 kB), truncated (the first half of a good JPEG).
    """
    contents = {
        "corrupt.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + np.random.default_rng(0).bytes(4000),
        "empty.jpg": b"",
        "text.jpg": b"This is a letter, not a photograph.\n" * 20,
        "bomb.png": png_of_zeros(30_000, 30_000),
        "truncated.jpg": truncated_jpeg(),
    }
    paths = {Path(name).stem: folder / name for name in contents}
    for path, content in zip(paths.values(), contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def png_of_zeros(width: int, height: int) -> bytes:
    """A complete and valid black PNG, 1 bit per pixel: 30,000 x 30,000 pixels shrink to about 100 kB."""
    row = bytes(1 + (width + 7) // 8)  # filter type 0, then the pixels
    compressor = zlib.compressobj()
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def truncated_jpeg() -> bytes:
    """The first half of a JPEG of coloured noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    return jpeg[: len(jpeg) // 2]
