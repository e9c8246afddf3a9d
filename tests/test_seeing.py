"""Captions of a tiny model that has a detector: what it sees goes with each picture from the file to the caption."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from captionist import BundleError, Captioner
from captionist.bundle import CONFIG, DETECTOR, ENCODER, IMAGE_HEAD, Bundle
from captionist.inference.encoding import Encoding, Prepared
from captionist.inference.engine import Engine
from tests.pictures import patchwork
from tests.tiny_bundle import GRID, PREFIX, WIDTH, write_tiny_bundle
from tests.tiny_detector import CLASSES, SEEN


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    path = tmp_path_factory.mktemp("bundle") / "seeing"
    return Captioner(write_tiny_bundle(path, aligned=True, match_weight=1.0, seeing=True), threads=2)


def png(rgb: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()


def test_a_picture_is_prepared_for_encoder_and_detector(captioner: Captioner) -> None:
    prepared = captioner.prepare(patchwork(0, 90, 160))
    assert prepared.pixels.shape == (3, 16, 16)
    assert prepared.scene is not None
    assert prepared.scene.dtype == np.uint8
    assert prepared.scene.shape == (192, 384, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (64, 48)])
def test_pictures_of_any_shape_are_described(captioner: Captioner, size: tuple[int, int]) -> None:
    picture = patchwork(3, *size)
    for source in (picture, png(picture)):
        caption = captioner.caption(source)
        assert caption.text.endswith(".")
        for word in caption.word_attention:
            assert word.weights.shape == GRID
            assert word.weights.sum() == pytest.approx(1, abs=1e-5)


def test_what_it_sees_reaches_the_caption(captioner: Captioner) -> None:
    """The same pixels with another scene: other objects, other tokens behind the grid's, another embedding."""
    prepared = captioner.prepare(patchwork(0))
    red = np.zeros((256, 256, 3), np.uint8)
    red[:, :, 0] = 255
    found = captioner.encode([prepared, Prepared(prepared.pixels, red)])
    assert found.visual_tokens.shape == (2, PREFIX + SEEN, WIDTH)
    assert found.objects is not None
    assert found.objects.shape == (2, CLASSES, 6)
    assert found.objects[1, :, 0].tolist() == [1, 0, 0]
    assert np.array_equal(found.visual_tokens[0, :PREFIX], found.visual_tokens[1, :PREFIX])
    assert not np.allclose(found.visual_tokens[0, PREFIX:], found.visual_tokens[1, PREFIX:])
    embedded = captioner.image_embeddings(found)
    assert embedded[0] @ embedded[1] < 0.99
    first, second = captioner.generate(found, captioner.defaults)
    assert first.log_probability != second.log_probability


def test_encodings_are_joined_in_their_order(captioner: Captioner) -> None:
    together = captioner.encode([captioner.prepare(patchwork(seed)) for seed in range(4)])
    joined = Encoding.join([together[2:], together[:2]])
    again = joined[np.array([2, 3, 0, 1])]
    assert again.objects is not None
    assert together.objects is not None
    assert np.array_equal(again.visual_tokens, together.visual_tokens)
    assert np.array_equal(again.objects, together.objects)


def test_attention_to_words_seen_is_attention_to_their_boxes(captioner: Captioner) -> None:
    """All attention is on the surest class, a blue patch in a corner; so the heat map is, too."""
    scene = np.zeros((256, 256, 3), np.uint8)
    scene[192:, :64, 2] = 255
    encoding = captioner.encode([Prepared(captioner.prepare(patchwork(0)).pixels, scene)])
    (places,) = captioner._wording._places(encoding)
    assert places.shape == (PREFIX + SEEN, PREFIX)
    looked = np.zeros((1, PREFIX + SEEN), np.float32)
    looked[0, PREFIX] = 1
    corner = np.zeros(GRID)
    corner[3, 0] = 1
    np.testing.assert_array_equal(captioner._wording._over_grid(looked, places), corner)
    looked[0, [PREFIX, -1]] = 0, 0.5  # the noun, which is of the whole picture
    np.testing.assert_allclose(captioner._wording._over_grid(looked, places), 1 / PREFIX)


def test_a_picture_prepared_for_a_model_without_a_detector_is_refused(captioner: Captioner) -> None:
    with pytest.raises(ValueError, match="prepare it with this one"):
        captioner.encode([Prepared(captioner.prepare(patchwork(0)).pixels, None)])


def test_a_bundle_needs_its_detector(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "tiny", seeing=True)
    (path / DETECTOR).unlink()
    with pytest.raises(BundleError, match=DETECTOR):
        Bundle.open(path)


@pytest.mark.parametrize("graph", [ENCODER, IMAGE_HEAD])
def test_graphs_that_read_no_objects_do_not_fit_a_detector(tmp_path: Path, graph: str) -> None:
    path = write_tiny_bundle(tmp_path / "tiny", aligned=True, seeing=True)
    blind = write_tiny_bundle(tmp_path / "blind", aligned=True)
    (path / graph).write_bytes((blind / graph).read_bytes())
    with pytest.raises(BundleError, match="not in the form"):
        Engine(Bundle.open(path))


def test_a_detector_of_other_classes_does_not_fit(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "tiny", seeing=True)
    config = (path / CONFIG).read_text()
    (path / CONFIG).write_text(config.replace('"blue"', '"blue",\n"grey"'))
    with pytest.raises(BundleError, match=r"scores is .* should be \[any, any, 4\]"):
        Engine(Bundle.open(path))


@pytest.mark.parametrize(("words", "complaint"), [(3, "prefix_length=19"), (4, "words=4 of 3 classes")])
def test_tokens_must_add_up_to_the_prefix(tmp_path: Path, words: int, complaint: str) -> None:
    path = write_tiny_bundle(tmp_path / "tiny", seeing=True)
    (path / CONFIG).write_text((path / CONFIG).read_text().replace('"words": 2', f'"words": {words}'))
    with pytest.raises(BundleError, match=complaint):
        Bundle.open(path)
