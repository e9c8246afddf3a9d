import io
import os
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionist.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    NotAnImageError,
    UnsupportedImageError,
)
from captionist.images import SCENE_SIDE, FilePart, ImageLimits, Preprocessing, decode, prepare, scene_shape, squeeze
from tests.hostile_images import png_chunk, png_of_zeros, write_hostile

EXAMPLES = Path(__file__).parent.parent / "examples"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


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
        "tiff-16": cv2.imencode(".tiff", deep)[1].tobytes(),
    }


SAMPLES = sample_files()


# --- Formats and pixel kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_format_comes_out_as_the_same_rgb(kind: str) -> None:
    rgb = decode(SAMPLES[kind])
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert close(rgb, smooth_noise(), tolerance=12)  # palettes are coarse


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "tiff-lzw", "tiff-16", "webp-lossless"])
def test_lossless_formats_are_exact(kind: str) -> None:
    assert np.array_equal(decode(SAMPLES[kind]), smooth_noise())


def test_a_path_a_string_and_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "picture with no extension"
    path.write_bytes(SAMPLES["jpeg"])
    assert np.array_equal(decode(path), decode(SAMPLES["jpeg"]))
    assert np.array_equal(decode(str(path)), decode(SAMPLES["jpeg"]))


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


@pytest.mark.parametrize("depth", [2, 8, 16])
def test_a_transparent_level_of_a_grey_png_is_white(depth: int) -> None:
    pixels = {2: b"\x1b", 8: b"\x00\x01\x02\x03", 16: b"\0\0\0\1\0\2\0\3"}[depth]  # levels 0, 1, 2, 3
    header = struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(b"\0" + pixels)), (b"IEND", b""))
    rgb = decode(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks))
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


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        rgb = decode(save(frames[0], format, save_all=True, append_images=frames[1:]))
        assert np.abs(rgb.astype(int) - RED).max() <= 3, format


# --- Orientation ----------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TO_ORIENTATION)
def test_exif_orientation_is_undone(format: str, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(TO_ORIENTATION[orientation](quadrants())))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert close(decode(save(stored, format, exif=exif)), quadrants())


@pytest.mark.parametrize(("at_least", "part"), [(None, 1), (700, 1), (512, 1), (256, 2), (100, 4), (64, 8), (1, 8)])
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


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_other_pictures_are_decoded_whole(mode: str) -> None:
    picture = Image.fromarray(quadrants(600, 800)).convert(mode)
    for content in (save(picture, "TIFF"), save(picture, "JPEG") if mode == "CMYK" else save(picture, "PNG")):
        assert decode(content, at_least=64).shape == (600, 800, 3)


def test_broken_exif_is_no_reason_to_refuse_a_picture() -> None:
    jpeg = SAMPLES["jpeg"]
    for payload in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff"):
        body = b"Exif\0\0" + payload
        content = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + jpeg[2:]
        assert np.array_equal(decode(content), decode(jpeg))


# --- Damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_file_cut_short_anywhere_is_refused(kind: str) -> None:
    content = SAMPLES[kind]
    lengths = {1, 2, 5, 11, 17, 25, *np.linspace(30, len(content) - 1, 20).astype(int).tolist()}
    for length in sorted(lengths):
        with pytest.raises(ImageError):
            decode(content[:length])


@pytest.mark.parametrize("kind", ["jpeg", "webp", "bmp", "tiff"])
def test_a_cut_file_is_said_to_lack_something(kind: str) -> None:
    with pytest.raises(CorruptImageError, match=r"missing.*fetch or export it again"):
        decode(SAMPLES[kind][:-100])


@pytest.mark.parametrize("kind", SAMPLES)
def test_flipped_bytes_never_raise_anything_but_image_errors(kind: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(SAMPLES[kind])
        reach = int(random.choice([64, 256, len(content)]))  # headers get their share
        for at in random.integers(0, min(reach, len(content)), 3):
            content[at] = random.integers(0, 256)
        try:
            rgb = decode(bytes(content), limits=ImageLimits(max_pixels=1_000_000))
        except ImageError:
            continue
        assert rgb.dtype == np.uint8
        assert rgb.shape[2] == 3


@pytest.mark.parametrize("part", [0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg-restarts", "grey", "cmyk"])
def test_a_cut_jpeg_with_an_end_marker_put_on_is_refused(kind: str, part: float) -> None:
    mode = {"grey": "L", "cmyk": "CMYK"}.get(kind)
    content = save(Image.open(EXAMPLES / "dog.jpg").convert(mode), "JPEG") if mode else SAMPLES[kind]
    scan = content.index(b"\xff\xda")  # the start of the picture's data; before it a cut shows anyway
    with pytest.raises(CorruptImageError):
        decode(content[: scan + int((len(content) - scan) * part)] + b"\xff\xd9")


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    content = SAMPLES["jpeg-progressive"]
    scans = [at for at in range(len(content)) if content.startswith(b"\xff\xda", at)]
    assert len(scans) > 5
    for scan in scans:
        with pytest.raises(CorruptImageError):
            decode(content[:scan] + b"\xff\xd9")


def test_a_jpeg_that_is_grey_in_its_corner_is_whole() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert np.array_equal(decode(save(Image.fromarray(grey), "JPEG")), grey)


def test_what_follows_a_picture_does_not_matter() -> None:
    jpeg = SAMPLES["jpeg"]
    motion_photo = jpeg + b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(5000)
    for content in (jpeg + bytes(100), jpeg + jpeg, motion_photo):
        assert np.array_equal(decode(content), decode(jpeg))
    for kind in ("png", "gif", "webp", "bmp"):
        assert np.array_equal(decode(SAMPLES[kind] + b"rubbish"), decode(SAMPLES[kind]))


def test_a_thumbnail_with_its_own_end_marker_does_not_hide_a_cut() -> None:
    jpeg, thumbnail = SAMPLES["jpeg"], save(Image.new("RGB", (16, 16)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(thumbnail)) + b"Exif\0\0" + thumbnail
    content = jpeg[:2] + segment + jpeg[2:]
    assert np.array_equal(decode(content), decode(jpeg))
    with pytest.raises(CorruptImageError):
        decode(content[: len(content) // 2])


def test_a_cut_jpeg_followed_by_another_picture_is_refused() -> None:
    photo = (EXAMPLES / "dog.jpg").read_bytes()
    with pytest.raises(CorruptImageError, match="second picture"):
        decode(photo[: len(photo) // 2] + photo)


def test_a_zero_dimension_is_refused() -> None:
    with pytest.raises(CorruptImageError, match="0 x 4"):
        decode(png_of_zeros(0, 4))


# --- Limits ---------------------------------------------------------------------------------------------------------

HUGE = 30_000


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
    tags += [(338, 3, extra_samples), (339, 3, sample_format)]
    entries = b"".join(
        struct.pack("<HHII", tag, kind, samples if tag == 258 else 1, value) for tag, kind, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(bits) + len(data)) + bits + data + directory


def patched(content: bytes, offset: int, layout: str, *values: int) -> bytes:
    return content[:offset] + struct.pack(layout, *values) + content[offset + struct.calcsize(layout) :]


def huge_files() -> dict[str, bytes]:
    jpeg = SAMPLES["jpeg"]
    webp_canvas = b"VP8X\x0a\0\0\0" + bytes(4) + 2 * (0xFFFFFF).to_bytes(3, "little")
    webp = b"WEBP" + webp_canvas + SAMPLES["webp"][12:]
    return {
        "jpeg": patched(jpeg, jpeg.index(b"\xff\xc0") + 5, ">HH", HUGE, HUGE),
        "png": patched(SAMPLES["png"], 16, ">II", HUGE, HUGE),
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


# --- What is not a picture ------------------------------------------------------------------------------------------


def test_hostile_files_each_get_their_error(tmp_path: Path) -> None:
    expected = {
        "corrupt": CorruptImageError,
        "empty": EmptyImageError,
        "text": NotAnImageError,
        "bomb": ImageTooLargeError,
        "truncated": CorruptImageError,
    }
    paths = write_hostile(tmp_path)
    assert paths.keys() == expected.keys()
    for kind, path in paths.items():
        with pytest.raises(expected[kind]) as caught:
            decode(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"Dear reader,", "text"),
        (b"BMW builds cars and motorcycles.", "text"),
        (b"\x7fELF\0\1\2\3", "unknown"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", r"a film or a sound \(MP4 or QuickTime\); save a frame"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a film"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "a film"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81", "WebM"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"\0\0\1\xba\x44\0\4", "MPEG"),
    ],
)
def test_other_files_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(NotAnImageError, match=rf"^<bytes>: .*{kind}"):
        decode(content)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG"),
        (b"\0\0\1\0\1\0\x10\x10", "ICO"),
        (b"8BPS\0\1", "PSD"),
        (tiff(np.ones((4, 4, 3), np.float32), sample_format=3), "floating-point"),
        (tiff(np.ones((4, 4, 3), np.uint8), compression=34712), "compression 34712"),
        (SAMPLES["jpeg"].replace(b"\xff\xc0", b"\xff\xc9", 1), "arithmetic-coded"),
    ],
)
def test_unsupported_pictures_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(UnsupportedImageError, match=rf"{kind}.*convert it to JPEG or PNG"):
        decode(content)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jpg", tmp_path, tmp_path / "missing" / "a.jpg", "null\0byte", "n" * 5000):
        with pytest.raises(ImageNotFoundError):
            decode(path)


def test_nothing_is_printed_about_bad_pictures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    undecodable = tmp_path / "undecodable.gif"  # gets past the header check and fails in OpenCV: LZW codes of 200 bits
    gif = SAMPLES["gif"]
    undecodable.write_bytes(patched(gif, gif.index(b"\x2c\0\0\0\0") + 10, "<B", 200))
    for path in (undecodable, *write_hostile(tmp_path).values()):
        with pytest.raises(ImageError):
            decode(path)
    assert capfd.readouterr() == ("", "")


def test_many_threads_give_the_same_pixels() -> None:
    alone = {kind: decode(content) for kind, content in SAMPLES.items()}
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(decode, list(SAMPLES.values()) * 8)
        for expected, actual in zip(list(alone.values()) * 8, together, strict=True):
            assert np.array_equal(actual, expected)


# --- Pixels for a model ---------------------------------------------------------------------------------------------

PLAIN = Preprocessing(size=(8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_prepare_squeezes_the_whole_picture_and_normalises() -> None:
    preprocessing = Preprocessing(size=(20, 10), mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
    pixels = prepare(quadrants(400, 100), preprocessing)
    assert pixels.shape == (3, 20, 10)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    np.testing.assert_allclose(pixels[:, 2, 2], [1.0, -1.6, -1.5], rtol=1e-5)  # red
    np.testing.assert_allclose(pixels[:, 17, 7], [1.0, 2.4, 3.5], rtol=1e-5)  # white


@pytest.mark.parametrize("shape", [(792, 792), (792, 4)], ids=["both axes shrink", "one axis shrinks"])
def test_shrinking_does_not_alias(shape: tuple[int, int]) -> None:
    stripes = np.zeros((*shape, 3), np.uint8)
    stripes[::2] = 255
    np.testing.assert_allclose(prepare(stripes, PLAIN), 0.5, atol=0.01)


def test_enlarging_makes_no_rims() -> None:
    edge = np.full((4, 4, 3), 100, np.uint8)
    edge[:, 2:] = 150
    pixels = prepare(edge, PLAIN) * 255
    assert pixels.min() == pytest.approx(100, abs=0.01)
    assert pixels.max() == pytest.approx(150, abs=0.01)


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    rgb = smooth_noise(8, 8)
    np.testing.assert_allclose(prepare(rgb, PLAIN), rgb.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_prepare_refuses_other_arrays(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        prepare(wrong, PLAIN)


def test_the_examples_decode() -> None:
    paths = sorted(EXAMPLES.glob("*.jpg"))
    assert len(paths) >= 3
    for path in paths:
        assert max(decode(path).shape) <= 640


@pytest.mark.parametrize(
    ("size", "scene"),
    [
        ((100, 100), (256, 256)),
        ((480, 640), (224, 320)),
        ((640, 480), (320, 224)),
        ((427, 640), (224, 320)),
        ((1080, 1920), (192, 384)),
        ((900, 1000), (256, 288)),
        ((1000, 900), (288, 256)),
        ((1, 5000), (192, 384)),
        ((5000, 1), (384, 192)),
    ],
)
def test_a_scene_has_the_nearest_shape(size: tuple[int, int], scene: tuple[int, int]) -> None:
    assert scene_shape(*size) == scene
    assert max(scene) <= SCENE_SIDE
    assert scene[0] % 32 == scene[1] % 32 == 0


FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000)


def test_a_large_film_is_not_told_to_be_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"before" + FILM)
    part = FilePart(path, "film.mp4", 6, len(FILM))
    (tmp_path / "own.mp4").write_bytes(FILM)
    for source in (FILM, tmp_path / "own.mp4", part):
        with pytest.raises(NotAnImageError, match="film"):
            decode(source, limits=ImageLimits(max_bytes=1000))
        with pytest.raises(NotAnImageError, match="film"):
            decode(source)
