from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionist.images import SCENE_SIDE, Preprocessing, prepare, scene_shape
from tests.images.samples import quadrants, smooth_noise

EXAMPLES = Path(__file__).parents[2] / "examples"

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


def cutting(size: tuple[int, int], resized: int | tuple[int, int]) -> Preprocessing:
    return Preprocessing(size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic", resized)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (40, 40), (7, 13)])
def test_others_models_get_pillows_pixels(shape: tuple[int, int]) -> None:
    """The shorter side is resized to 10, the longer one as it follows, and the middle cut out."""
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    height, width = (10 * side // min(shape) for side in shape)
    whole = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)) / 255
    top, left = (height - 8) // 2, (width - 8) // 2
    expected = whole[top : top + 8, left : left + 8].transpose(2, 0, 1)
    np.testing.assert_allclose(prepare(rgb, cutting((8, 8), 10)), expected, atol=1e-6)


def test_a_picture_is_squeezed_before_it_is_cut() -> None:
    pixels = prepare(quadrants(400, 100), cutting((20, 20), (40, 40)))
    np.testing.assert_allclose(pixels[:, 2, 2], [1, 0, 0], atol=1e-6)  # red
    np.testing.assert_allclose(pixels[:, 17, 17], [1, 1, 1], atol=1e-6)  # white


@pytest.mark.parametrize("shape", [(1, 400_000), (400_000, 1)])
def test_a_ribbon_takes_no_gigabytes(shape: tuple[int, int]) -> None:
    """Resizing its shorter side to 224 pixels would make it 20 billion pixels in all."""
    assert prepare(np.full((*shape, 3), 255, np.uint8), cutting((224, 224), 224)).min() == 1
