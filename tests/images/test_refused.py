from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from captionist.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    NotAnImageError,
    UnsupportedImageError,
)
from captionist.images import FilePart, ImageLimits, decode
from harness.pictures import write_hostile
from tests.images.samples import SAMPLES, patched, tiff


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
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", r"video or audio \(MP4 or QuickTime\); save a frame"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video or audio"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video or audio"),
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
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG"),
        (b"\0\0\1\0\1\0\x10\x10", "ICO"),
        (b"8BPS\0\1", "PSD"),
        (SAMPLES["jpeg"].replace(b"\xff\xc0", b"\xff\xc9", 1), "arithmetic-coded"),
    ],
)
def test_unsupported_pictures_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(UnsupportedImageError, match=rf"{kind}.*convert it to JPEG or PNG"):
        decode(content)


@pytest.mark.parametrize(
    "content",
    [
        tiff(np.ones((4, 4, 3), np.float32), sample_format=3),
        tiff(np.ones((4, 4, 3), np.uint8), compression=34712),
    ],
)
def test_a_tiff_of_a_rare_kind_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptImageError, match=r"TIFF .*of a rare kind.*convert it to JPEG or PNG"):
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


FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000)


def test_a_large_film_is_not_told_to_be_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"before" + FILM)
    part = FilePart(path, "film.mp4", 6, len(FILM))
    (tmp_path / "own.mp4").write_bytes(FILM)
    for source in (FILM, tmp_path / "own.mp4", part):
        with pytest.raises(NotAnImageError, match="video or audio"):
            decode(source, limits=ImageLimits(max_bytes=1000))
        with pytest.raises(NotAnImageError, match="video or audio"):
            decode(source)
