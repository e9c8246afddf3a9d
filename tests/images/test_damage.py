import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captionist.errors import CorruptImageError, ImageError, UnsupportedImageError
from captionist.images import decode
from harness.pictures import png_of_zeros
from tests.images.fuzz import LIMITS, damaged
from tests.images.samples import SAMPLES, save

EXAMPLES = Path(__file__).parents[2] / "examples"


# What stands behind a picture's last pixel, in bytes: an end marker, a checksum, the frames that follow.
BEHIND = {"jpeg": 2, "jpeg-progressive": 2, "jpeg-restarts": 2, "png": 24, "png-palette": 24, "gif": 2}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_file_cut_short_anywhere_is_refused(kind: str) -> None:
    content = SAMPLES[kind]
    end = len(content) - BEHIND.get(kind, 0)
    if kind == "gif-animated":
        end = content.index(b"\0\x21\xf9", 900)  # where the second frame begins
    lengths = {1, 2, 5, 11, 17, 25, *np.linspace(30, end - 1, 20).astype(int).tolist()}
    for length in sorted(lengths):
        with pytest.raises(ImageError):
            decode(content[:length])


@pytest.mark.parametrize("kind", ["jpeg", "jpeg-progressive", "jpeg-restarts", "png", "gif"])
@pytest.mark.parametrize("follows", [b"", bytes(300), b"\0\0\x01\x0aMCC_Data310SEFHk\0\0\0SEFT"])
def test_a_picture_without_an_end_marker_is_whole(kind: str, follows: bytes) -> None:
    content = SAMPLES[kind]
    marker = {"jpeg": 2, "png": 12, "gif": 1}[kind.partition("-")[0]]
    if kind[:4] == "jpeg" or not follows:
        assert np.array_equal(decode(content[:-marker] + follows), decode(content))


@pytest.mark.parametrize("photo", ["dog", "band", "coffee", "river"])
def test_a_jpeg_without_an_end_marker_that_lacks_more_is_not(photo: str) -> None:
    content = (EXAMPLES / f"{photo}.jpg").read_bytes()
    for length in [*range(len(content) - 12, len(content) - 2), len(content) // 2]:
        for zeros in (b"", bytes(1000)):
            with pytest.raises(CorruptImageError):
                decode(content[:length] + zeros)


def test_a_cut_at_a_restart_marker_is_noticed() -> None:
    content = SAMPLES["jpeg-restarts"]
    restarts = [at for at in range(len(content)) if content[at] == 0xFF and 0xD0 <= content[at + 1] <= 0xD7]
    assert restarts
    for restart in restarts:
        with pytest.raises(CorruptImageError):
            decode(content[:restart])


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    """Each of them costs a pass over the whole picture."""
    content = SAMPLES["jpeg-progressive"]
    scans = [at for at in range(len(content)) if content.startswith(b"\xff\xda", at)]
    with pytest.raises(UnsupportedImageError, match="200 scans"):
        decode(content[: scans[1]] + content[scans[0] : scans[1]] * 1000 + content[scans[1] :])


@pytest.mark.parametrize("kind", ["jpeg", "webp", "bmp", "tiff"])
def test_a_cut_file_is_said_to_lack_something(kind: str) -> None:
    with pytest.raises(CorruptImageError, match=r"missing.*fetch or export it again"):
        decode(SAMPLES[kind][:-100])


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
    with pytest.raises(CorruptImageError, match="missing"):
        decode(photo[: len(photo) // 2] + photo)


def test_a_zero_dimension_is_refused() -> None:
    with pytest.raises(CorruptImageError):
        decode(png_of_zeros(0, 4))


@pytest.mark.parametrize("kind", SAMPLES)
def test_damage_never_raises_anything_but_image_errors(kind: str) -> None:
    random, refused = np.random.default_rng(0), 0
    for _ in range(100):
        content, at_least = damaged(SAMPLES[kind], random), int(random.choice([16, 1000]))
        try:
            rgb = decode(content, limits=LIMITS, at_least=at_least)
        except ImageError:
            refused += 1
        else:
            assert rgb.dtype == np.uint8
            assert rgb.shape[2] == 3
    assert refused
