"""What is made of a detector's scores and boxes, and where words seen are in a picture."""

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from captionist.errors import BundleError
from captionist.inference.detector import Detector, box_shares
from captionist.inference.sessions import session_options

Floats = NDArray[np.float32]
SCENE = np.zeros((32, 32, 3), np.uint8)


def detector_of(scores: Floats, boxes: Floats) -> Detector:
    """A detector that gives [cells, K] scores and [cells, 4] boxes, whatever it is shown."""
    constants = [
        helper.make_node(
            "Constant",
            [],
            [name],
            value=helper.make_tensor(name, TensorProto.FLOAT, (1, *value.shape), value.reshape(-1).tolist()),
        )
        for name, value in (("scores", scores), ("boxes", boxes))
    ]
    graph = helper.make_graph(
        constants,
        "constant",
        [helper.make_tensor_value_info("scene", TensorProto.UINT8, [1, None, None, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, *scores.shape]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, *boxes.shape]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return Detector(ort.InferenceSession(model.SerializeToString(), session_options(1)))


def test_the_surest_box_of_each_class_is_kept_and_distinct_ones_are_counted() -> None:
    boxes = np.array(
        [[0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.5, 0.5], [0.3, 0.3, 0.7, 0.7], [0.6, 0.6, 0.9, 0.9], [0, 0, 1, 1]],
        np.float32,
    )
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.0], [0.6, 0.0], [0.25, 0.25]], np.float32)
    objects = detector_of(scores, boxes)(SCENE)
    assert objects.dtype == np.float32
    # The second box is the first one again, the third one overlaps it by a seventh, the last is not above a quarter.
    np.testing.assert_allclose(objects, [[0.9, 3, 0.1, 0.1, 0.5, 0.5], [0.25, 0, 0, 0, 1, 1]], rtol=1e-6)


def test_a_box_that_was_struck_out_strikes_out_no_other() -> None:
    """A row of boxes, each over half of the next: every other one stays."""
    left = np.arange(6, dtype=np.float32) * 0.1
    boxes = np.stack([left, np.zeros(6), left + 0.4, np.ones(6)], axis=1).astype(np.float32)
    scores = np.linspace(0.9, 0.4, 6, dtype=np.float32)[:, None]
    assert detector_of(scores, boxes)(SCENE)[0, 1] == 3


def test_boxes_without_an_area_are_objects_too() -> None:
    points = np.full((3, 4), 0.5, np.float32)
    objects = detector_of(np.full((3, 1), 0.5, np.float32), points)(SCENE)
    assert objects[0].tolist() == [0.5, 3, 0.5, 0.5, 0.5, 0.5]


def test_a_detector_that_fails_is_an_error_of_one_line() -> None:
    detector = detector_of(np.zeros((1, 1), np.float32), np.zeros((1, 4), np.float32))
    with pytest.raises(BundleError, match=r"^detector\.onnx failed .*$"):
        detector(np.zeros((32, 32), np.uint8))


def seen(*rows: tuple[float, ...]) -> Floats:
    """objects of classes with a score and a box each."""
    return np.array([[score, 1, *box] for score, *box in rows], np.float32)


def test_a_word_is_where_its_box_is() -> None:
    objects = seen((0.2, 0, 0, 1, 1), (0.9, 0.5, 0, 1, 0.25), (0.5, 0, 0.25, 0.75, 1))
    shares = box_shares(objects, words=3, nouns=1, grid=(2, 2)).reshape(4, 2, 2)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares[0], [[0, 1], [0, 0]])
    np.testing.assert_allclose(shares[1], np.outer([1 / 3, 2 / 3], [2 / 3, 1 / 3]), atol=1e-6)
    np.testing.assert_allclose(shares[2], 0.25)
    np.testing.assert_allclose(shares[3], 0.25)


def test_of_equally_sure_classes_the_first_comes_first() -> None:
    objects = seen((0.1, 0, 0, 1, 1), (0.5, 0, 0, 0.5, 1), (0.5, 0.5, 0, 1, 1))
    shares = box_shares(objects, words=2, nouns=0, grid=(1, 2))
    np.testing.assert_allclose(shares, [[1, 0], [0, 1]])


@pytest.mark.parametrize(("point", "cell"), [(0.0, 0), (0.5, 2), (0.74, 2), (1.0, 3)])
def test_a_box_without_an_area_is_in_the_cell_of_its_centre(point: float, cell: int) -> None:
    shares = box_shares(seen((1, point, point, point, point)), words=1, nouns=0, grid=(4, 4)).reshape(4, 4)
    assert shares[cell, cell] == shares.sum() == 1


@pytest.mark.parametrize("grid", [(1, 1), (5, 5), (8, 3)])
def test_every_token_counts_once(grid: tuple[int, int]) -> None:
    corners = np.random.default_rng(0).uniform(size=(80, 2, 2)).astype(np.float32)
    low, high = corners.min(1), corners.max(1)
    objects = np.concatenate([np.random.default_rng(1).uniform(size=(80, 2)), low, high], axis=1).astype(np.float32)
    shares = box_shares(objects, 80, 3, grid)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    assert (shares >= 0).all()
