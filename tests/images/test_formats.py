import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from captionist.images import decode
from harness.pictures import png_chunk
from tests.images.samples import BLUE, RED, SAMPLES, WHITE, close, quadrants, save, smooth_noise, tiff

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_format_comes_out_as_the_same_rgb(kind: str) -> None:
    rgb = decode(SAMPLES[kind])
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert close(rgb, smooth_noise(), tolerance=12)  # palettes are coarse


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "tiff-lzw", "tiff-16", "webp-lossless"])
def test_lossless_formats_are_exact(kind: str) -> None:
    assert np.array_equal(decode(SAMPLES[kind]), smooth_noise())


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_single_pixel_is_a_picture(format: str, mode: str) -> None:
    rgb = decode(save(Image.new(mode, (1, 1), "gray"), format))
    assert rgb.shape == (1, 1, 3)
    assert np.abs(rgb.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L"])
@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_becomes_rgb(format: str, mode: str) -> None:
    expected = np.zeros((8, 8, 3), np.uint8)
    expected[:, 4:] = 255
    assert np.array_equal(decode(save(Image.fromarray(expected).convert(mode), format)), expected)


def half_transparent() -> Image.Image:
    """Black; the left third opaque, the middle one half transparent, the right one not to be seen at all."""
    picture = Image.new("RGBA", (96, 32), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 128), (32, 0, 64, 32))
    picture.paste((0, 0, 0, 0), (64, 0, 96, 32))
    return picture


@pytest.mark.parametrize(
    "content",
    [
        save(half_transparent(), "PNG"),
        save(half_transparent().convert("LA"), "PNG"),
        save(half_transparent(), "WEBP", lossless=True),
        save(half_transparent(), "TIFF"),
        cv2.imencode(".png", np.array(half_transparent()).astype(np.uint16) * 257)[1].tobytes(),
    ],
    ids=["png", "png-grey", "webp", "tiff", "png-16"],
)
def test_transparency_is_over_white(content: bytes) -> None:
    left, middle, right = (decode(content)[16, column] for column in (16, 48, 80))
    assert (left == 0).all()
    assert (np.abs(middle.astype(int) - 127) <= 1).all()
    assert (right == 255).all()


@pytest.mark.parametrize("alpha_kind", [1, 2], ids=["premultiplied", "straight"])
def test_alpha_of_16_bit_tiffs(alpha_kind: int) -> None:
    stored = (64 if alpha_kind == 1 else 128) * 257  # mid-grey at half opacity
    pixels = np.full((4, 4, 4), (stored, stored, stored, 128 * 257), np.uint16)
    assert (np.abs(decode(tiff(pixels, extra_samples=alpha_kind)).astype(int) - 191) <= 1).all()


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_white(format: str) -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.paste(1, (4, 0, 8, 8))
    rgb = decode(save(picture, format, transparency=0))
    assert (rgb[:, :4] == WHITE).all()
    assert (rgb[:, 4:] == RED).all()


def png(depth: int, colour: int, clear: bytes, pixels: bytes, width: int = 4) -> bytes:
    """A PNG of one row in which one colour means transparent."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", clear), (b"IDAT", zlib.compress(b"\0" + pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def test_a_transparent_colour_of_16_bits_is_no_other_that_looks_like_it() -> None:
    clear, near = struct.pack(">3H", 0x1234, 0x5678, 0x9ABC), struct.pack(">3H", 0x1234, 0x5678, 0x9ABD)
    rgb = decode(png(16, 2, clear, clear + near, width=2))
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert np.abs(rgb[0, 1].astype(int) - (0x12, 0x56, 0x9A)).max() <= 1


@pytest.mark.parametrize("depth", [2, 8, 16])
def test_a_transparent_level_of_a_grey_png_is_white(depth: int) -> None:
    pixels = {2: b"\x1b", 8: b"\x00\x01\x02\x03", 16: b"\0\0\0\1\0\2\0\3"}[depth]  # levels 0, 1, 2, 3
    rgb = decode(png(depth, 0, b"\0\1", pixels))
    assert (rgb[0, 1] == 255).all()
    assert (rgb[0, 0] == 0).all()
    assert (rgb[0, 2] < 255).all()


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format: str) -> None:
    assert close(decode(save(Image.fromarray(quadrants()).convert("CMYK"), format)), quadrants())


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_16_bits_become_8(extension: str) -> None:
    levels = np.array([[0, 128, 129, 257, 32767, 32896, 65406, 65407, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 127, 128, 254, 255, 255]
    assert decode(cv2.imencode(extension, levels)[1].tobytes())[0, :, 0].tolist() == expected
    in_colour = decode(cv2.imencode(extension, np.stack([levels] * 3, axis=2))[1].tobytes())[0, :, 0]
    assert (np.abs(in_colour.astype(int) - expected) <= 1).all()


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        rgb = decode(save(frames[0], format, save_all=True, append_images=frames[1:]))
        assert np.abs(rgb.astype(int) - RED).max() <= 3, format


def gif_with_a_small_first_frame() -> bytes:
    """A canvas of 64 x 32 whose first frame, 16 x 16 and red, lies at (8, 4); the background colour is blue."""
    picture = Image.new("P", (16, 16), 1)
    picture.putpalette([0, 0, 255, 255, 0, 0])
    content = bytearray(save(picture, "GIF", background=0))
    struct.pack_into("<HH", content, 6, 64, 32)
    struct.pack_into("<HH", content, content.index(b"\x2c\0\0\0\0\x10\0") + 1, 8, 4)
    return bytes(content)


def test_what_a_frame_leaves_free_is_white() -> None:
    rgb = decode(gif_with_a_small_first_frame())
    assert rgb.shape == (32, 64, 3)
    assert (rgb[4:20, 8:24] == RED).all()
    assert (rgb == WHITE).all(axis=2).sum() == 64 * 32 - 16 * 16


def test_a_picture_for_those_who_show_no_animations_is_not_shown() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, WHITE)]
    rgb = decode(save(frames[0], "PNG", save_all=True, default_image=True, append_images=frames[1:]))
    assert (rgb == BLUE).all()


@pytest.mark.parametrize("kind", ["png", "webp", "webp-lossless", "tiff", "avif", "heic", "jpeg-2000"])
def test_a_large_picture_is_shrunk_on_the_way(kind: str) -> None:
    expected = smooth_noise()[::1].reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    # What a JPEG 2000 keeps of a smaller size is no mean, and this one is all detail.
    tolerance = 30 if kind == "jpeg-2000" else 12
    assert close(decode(SAMPLES[kind], at_least=16), expected.round().astype(np.uint8), tolerance)


def test_transparency_bleeds_no_colour_when_it_is_shrunk() -> None:
    """Red beside clear black: mixed by area it is red over white, without a trace of the black."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 1::2] = (*RED, 255)
    assert (np.abs(decode(save(Image.fromarray(pixels), "PNG"), at_least=16).astype(int) - (255, 128, 128)) <= 2).all()
