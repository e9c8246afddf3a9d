"""Whether standard input holds one picture or several."""

import struct
from pathlib import Path

import cv2
import pytest

from captionist.images import decode
from captionist.several import holds_several
from tests.pictures import patchwork, write_png
from tests.tools import command


def encoded(suffix: str, seed: int = 1) -> bytes:
    return cv2.imencode(suffix, patchwork(seed))[1].tobytes()


def with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with one more segment behind its first marker."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def of_two_views() -> bytes:
    """A file as stereo cameras and phones with gain maps write it: the first JPEG says where the second one is."""
    first, second = encoded(".jpg", 1), encoded(".jpg", 2)
    header = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 2)
    header += struct.pack(">HHII", 0xB001, 4, 1, 2) + struct.pack(">HHII", 0xB002, 7, 32, 38) + bytes(4)
    size = len(first) + 8 + len(header) + 32  # marker, length, "MPF\0" and two entries
    base = 2 + 4 + 4  # where the index begins, from which places are counted
    entries = struct.pack(">IIIHH", 0x030000, size, 0, 0, 0) + struct.pack(">IIIHH", 0, len(second), size - base, 0, 0)
    whole = with_segment(first, 0xE2, b"MPF\0" + header + entries)
    assert len(whole) == size
    return whole + second


def motion_photo() -> bytes:
    video = b"\0\0\0\x18ftypmp42" + encoded(".png")
    xmp = f'http://ns.adobe.com/xap/1.0/\0<x Item:Length="0" Item:Length="{len(video)}"/>'.encode()
    return with_segment(encoded(".jpg"), 0xE1, xmp) + video


SUFFIXES = [".jpg", ".png", ".webp", ".bmp"]


ONE = [*map(encoded, [*SUFFIXES, ".tif"]), of_two_views(), motion_photo(), encoded(".jpg") + b"rubbish"]


@pytest.mark.parametrize("one", range(len(ONE)))
def test_what_cameras_append_is_not_another_picture(one: int) -> None:
    assert decode(ONE[one]).shape[2] == 3
    assert not holds_several(ONE[one])


@pytest.mark.parametrize("first", [0, 1, 2, 3, 5, 6])
@pytest.mark.parametrize("second", range(len(ONE)))
def test_two_files_in_one_stream_are_several(first: int, second: int) -> None:
    assert holds_several(ONE[first] + ONE[second])


def test_a_picture_that_is_not_read_is_one_too() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert holds_several(encoded(".jpg") + heic)
    assert not holds_several(heic + encoded(".jpg"))  # which is an error of its own
    assert not holds_several(b"")


@pytest.mark.parametrize("cut", range(2, 60))
def test_a_damaged_index_is_no_obstacle(cut: int) -> None:
    whole = of_two_views()
    damaged = with_segment(encoded(".jpg"), 0xE2, whole[6 : 6 + cut])
    assert not holds_several(damaged)


def test_several_pictures_on_standard_input_are_an_error_and_the_named_ones_are_captioned(
    model: Path, tmp_path: Path
) -> None:
    picture = write_png(tmp_path / "a.png", 1)
    data = picture.read_bytes() * 2
    done = command("caption", "-", picture, "--model", model, input=data)
    assert (done.returncode, done.stdout.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"-: standard input holds more than one picture: name the files")
    done = command("match", "-", "a dog", "--model", model, input=data)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"captionist: standard input holds more than one picture")
