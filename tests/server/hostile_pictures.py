"""Files that say they are pictures."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from harness.pictures import png_chunk, png_of_zeros, truncated_jpeg

MARK = b"bytes-of-a-picture"
"""Is in many of them, and should be in no log."""
NOISE = np.random.default_rng(0).bytes(4000)


def broken_files(picture: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that cannot be read, by what is wrong with them; picture: a sound JPEG."""
    for name, whole in samples().items():
        for where, count in (("after 5 bytes", 5), ("after 30 bytes", 30), ("in half", len(whole) // 2)):
            yield f"{name}, cut {where}", whole[:count]
        if name != "webp":  # where all that can follow means something
            yield f"{name}, whose rest is noise", whole[:60] + NOISE
        yield f"{name}, whose start is missing", whole[20:]
    yield "jpeg, with noise for a body", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + NOISE
    yield "jpeg, of noise and cut", truncated_jpeg()
    yield "jpeg, of fill bytes", b"\xff\xd8" + b"\xff" * 5_000_000
    yield "jpeg, of empty segments", b"\xff\xd8" + b"\xff\xe2\x00\x02" * 500_000
    yield "gif, of empty blocks", b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"\x21\xff\x00" * 500_000
    yield "jpeg, twice the start", picture[:400] + picture
    yield "a jpeg of 65,535 x 65,535", _resized_jpeg(picture, 65535, 65535)
    yield "a jpeg of 0 x 0", _resized_jpeg(picture, 0, 0)
    yield "a png of 900 megapixels", png_of_zeros(30_000, 30_000)
    for width, height in ((0, 0), (0, 5), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (1_000_001, 1), (1, 2**24)):
        yield f"a png of {width:,} x {height:,}", _png(width, height)
    yield "png, without data", _png(4, 4, with_data=False)
    yield "png, with a wrong checksum", _png(4, 4).replace(b"IDAT", b"IDAt")
    yield "png, with a chunk of 2 GB", _png(4, 4)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT" + NOISE
    yield "png, with rubbish for data", _png(4, 4, data=NOISE)
    yield "a gif of 65,535 x 65,535", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";"
    yield "gif, without a frame", b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";"
    yield "gif, that is a script too", b"GIF89a/*" + MARK + b"*/=alert(1)//;"
    for width, height in ((2**30, 2**30), (-5, 5), (0, 0), (60_000, -60_000)):
        yield f"a bmp of {width:,} x {height:,}", _bmp(width, height)
    for width, height in ((2**32 - 1, 2**32 - 1), (0, 0), (100_000, 100_000)):
        yield f"a tiff of {width:,} x {height:,}", _tiff(width, height)
    yield "tiff, whose directory is far away", b"II*\0" + struct.pack("<I", 2**32 - 1) + NOISE
    yield "tiff, whose directory is itself", b"II*\0" + struct.pack("<I", 4) * 50
    yield "bigtiff, with endless entries", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + NOISE
    yield "webp, longer than it is", b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8 " + NOISE
    yield "webp, without a picture", b"RIFF" + struct.pack("<I", 4) + b"WEBP"
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff" * 6
    yield "webp, of 16,777,216 x 16,777,216", b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    for kind, start in _OTHER_KINDS.items():
        yield kind, start + MARK
    yield "text", MARK + b" are a letter, not a photograph.\n" * 20
    yield "nothing", b""
    yield "null bytes", bytes(1000)
    yield "a megabyte of noise", np.random.default_rng(1).bytes(1_000_000)


_OTHER_KINDS = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "svg with endless entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><svg>&b;&b;</svg>',
    "svg that reads a file": b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><svg>&f;</svg>',
    "heic": b"\0\0\0\x20ftypheic\0\0\0\0mif1heic",
    "avif": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
    "jpeg xl": b"\xff\x0a",
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "photoshop": b"8BPS\0\x01",
    "icon": b"\0\0\1\0\1\0",
    "openexr": b"\x76\x2f\x31\x01",
    "radiance": b"#?RADIANCE\n",
    "netpbm": b"P6\n100000 100000\n255\n",
    "pdf": b"%PDF-1.7\n",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (r) file\n",
    "zip": b"PK\x03\x04",
    "gzip": zlib.compress(bytes(100_000)),
    "elf": b"\x7fELF\x02\x01\x01",
    "windows program": b"MZ\x90\0",
    "html": b"<!doctype html><script>alert(1)</script>",
    "html before a png": b"<html>\x89PNG\r\n\x1a\n",
    "mp4": b"\0\0\0\x20ftypisom",
    "imagemagick script": b"push graphic-context\nimage over 0,0 0,0 'https://x.test/|ls'\n",
    "byte order mark and json": b"\xef\xbb\xbf{}",
}


def samples() -> dict[str, bytes]:
    """A small sound picture of every kind."""
    pixels = np.random.default_rng(2).integers(0, 256, (40, 60, 3), np.uint8)
    picture = Image.fromarray(pixels)

    def saved(format: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, format, **options)
        return buffer.getvalue()

    return {
        "jpeg": saved("JPEG"),
        "png": saved("PNG"),
        "gif": saved("GIF"),
        "bmp": saved("BMP"),
        "webp": saved("WEBP"),
        "lossless webp": saved("WEBP", lossless=True),
        "tiff": saved("TIFF"),
        "lzw tiff": saved("TIFF", compression="tiff_lzw"),
    }


def _png(width: int, height: int, data: bytes | None = None, with_data: bool = True) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(200)) if data is None else data) if with_data else b""
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


def _bmp(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def _tiff(width: int, height: int) -> bytes:
    entries = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (273, 4, 1, 8), (279, 4, 1, 100))
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(100)


def _resized_jpeg(picture: bytes, width: int, height: int) -> bytes:
    at = next(at for at in (picture.find(bytes((0xFF, marker, 0))) for marker in (0xC0, 0xC2)) if at > 0)
    return picture[: at + 5] + struct.pack(">HH", height, width) + picture[at + 9 :]
