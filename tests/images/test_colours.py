"""Colour profiles: a picture means the colours that its profile says, whatever its numbers are."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from captionist.images import decode
from tests.images.samples import save

# The chromaticities of red, green and blue, and the gamma, by the spaces' own definitions.
SPACES = {
    "Display P3": (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.3127, 0.3290), 2.2),
    "Adobe RGB (1998)": (((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)), (0.3127, 0.3290), 2.19921875),
    "ProPhoto RGB": (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585), 1.8),
}
# From the white of a space to that of all profiles, D50 (Bradford), as published by B. Lindbloom.
D65_TO_D50 = np.array(
    [[1.0478112, 0.0228866, -0.0501270], [0.0295424, 0.9904844, -0.0170491], [-0.0092345, 0.0150436, 0.7521316]]
)
D50 = np.array([0.9642, 1.0, 0.8249])


def to_d50(name: str) -> np.ndarray:
    """The matrix from linear RGB of a space to XYZ under D50."""
    primaries, (x, y), _ = SPACES[name]
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([x / y, 1, (1 - x - y) / y])
    matrix = columns * np.linalg.solve(columns, white)
    return matrix if name == "ProPhoto RGB" else D65_TO_D50 @ matrix


def icc_profile(name: str) -> bytes:
    """A version 2 matrix profile (ICC.1:2001-04), as cameras and editors embed it."""

    def fixed(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    text = name.encode() + b"\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(SPACES[name][2] * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78 + -(len(text) + 78) % 4),
        b"wtpt": fixed(D50),
        **{b"%cXYZ" % letter: fixed(column) for letter, column in zip(b"rgb", to_d50(name).T, strict=True)},
        **{b"%cTRC" % letter: curve for letter in b"rgb"},
    }
    table, body, at = b"", b"", 132 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", at + len(body), len(content))
        body += content
    header = bytes(8) + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in D50)) + bytes(48)
    return struct.pack(">I", at + len(body)) + header[4:] + struct.pack(">I", len(tags)) + table + body


def in_space(name: str, srgb: tuple[int, int, int]) -> tuple[int, ...]:
    """What a file in that space contains for a colour of sRGB."""
    encoded = np.array(srgb) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    primaries = np.array([[x / y, 1, (1 - x - y) / y] for x, y in ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    xyz = D65_TO_D50 @ (primaries * np.linalg.solve(primaries, white)) @ linear
    own = np.linalg.solve(to_d50(name), xyz).clip(0, 1)
    return tuple(round(float(value)) for value in 255 * own ** (1 / SPACES[name][2]))


COLOURS = [(200, 80, 60), (60, 140, 70), (50, 70, 160), (128, 128, 128), (250, 240, 200)]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("name", SPACES)
def test_a_profile_is_converted_to_srgb(name: str, format: str) -> None:
    assert np.abs(np.subtract(in_space(name, COLOURS[0]), COLOURS[0])).max() > 12  # which would be seen
    for colour in COLOURS:
        stored = in_space(name, colour)
        options = {"quality": 95} if format not in ("PNG", "TIFF") else {}
        rgb = decode(save(Image.new("RGB", (32, 32), stored), format, icc_profile=icc_profile(name), **options))
        assert np.abs(rgb[16, 16].astype(int) - colour).max() <= 6, colour


def test_transparency_is_kept_beside_a_profile() -> None:
    stored = in_space("Display P3", COLOURS[0])
    picture = Image.new("RGBA", (32, 32), (*stored, 255))
    picture.paste((0, 0, 0, 0), (16, 0, 32, 32))
    rgb = decode(save(picture, "PNG", icc_profile=icc_profile("Display P3")))
    assert np.abs(rgb[8, 8].astype(int) - COLOURS[0]).max() <= 3
    assert (rgb[8, 24] == 255).all()


def test_srgb_itself_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3))
    assert np.array_equal(decode(save(picture, "PNG", icc_profile=profile)), np.asarray(picture))


@pytest.mark.parametrize("profile", [b"rubbish", b"\0" * 200, icc_profile("Display P3")[:150]])
def test_a_broken_profile_is_no_reason_to_refuse_a_picture(profile: bytes) -> None:
    picture = Image.new("RGB", (8, 8), COLOURS[0])
    assert np.array_equal(decode(save(picture, "PNG", icc_profile=profile)), np.asarray(picture))


def test_a_profile_of_another_kind_of_picture_is_left_aside() -> None:
    picture = Image.new("L", (8, 8), 100)
    assert (decode(save(picture, "PNG", icc_profile=icc_profile("Display P3"))) == 100).all()


def test_lab() -> None:
    picture = Image.new("LAB", (8, 8), (255, 128, 128))
    assert (decode(save(picture, "TIFF")) >= 254).all()
