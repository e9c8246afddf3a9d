"""What a tiny bundle with a detector has more: one that sees how red, green and blue each patch of a picture is."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from captionist.bundle import DetectorConfig
from captionist.inference.detector import OBJECT_WIDTH

CONFIG = DetectorConfig(classes=("red", "green", "blue"), words=2, nouns=1)
CLASSES, SEEN = len(CONFIG.classes), CONFIG.words + CONFIG.nouns
_SIDE = 4

Nodes = tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]


def detector() -> Nodes:
    """scene uint8 [1, h, w, 3] -> scores [1, 16, 3], the colours of the middles of 4 x 4 patches, and their boxes."""
    edges = np.arange(_SIDE, dtype=np.float32) / _SIDE
    top, left = np.meshgrid(edges, edges, indexing="ij")
    boxes = np.stack([left, top, left + 1 / _SIDE, top + 1 / _SIDE], axis=-1).reshape(1, -1, 4)
    constants: dict[str, NDArray[Any]] = {
        "sizes": np.array([1, _SIDE, _SIDE, 3]),
        "flat": np.array([1, _SIDE * _SIDE, 3]),
        "brightest": np.array(255, np.float32),
        "patches": boxes.astype(np.float32),
    }
    nodes = [
        helper.make_node("Resize", ["scene", "", "", "sizes"], ["middles"], mode="nearest"),
        helper.make_node("Cast", ["middles"], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "flat"], ["cells"]),
        helper.make_node("Div", ["cells", "brightest"], ["scores"]),
        helper.make_node("Identity", ["patches"], ["boxes"]),
    ]
    return nodes, constants


def words_seen(generator: np.random.Generator, width: int) -> Nodes:
    """`grid_tokens` [B, 16, W] and `objects` -> `visual_tokens`: behind them the surest classes, and what all are."""
    constants: dict[str, NDArray[Any]] = {
        "names": generator.normal(size=(CLASSES, width)).astype(np.float32),
        "score": np.array(0),
        "words": np.array([CONFIG.words]),
        "tokens_axis": np.array([1]),
        "last_axis": np.array([2]),
    }
    nodes = [
        helper.make_node("Gather", ["objects", "score"], ["class_scores"], axis=2),
        helper.make_node("TopK", ["class_scores", "words"], ["sureness", "surest"], axis=1),
        helper.make_node("Gather", ["names", "surest"], ["named"]),
        helper.make_node("Unsqueeze", ["sureness", "last_axis"], ["weights"]),
        helper.make_node("Mul", ["named", "weights"], ["word_tokens"]),
        helper.make_node("ReduceMean", ["grid_tokens", "tokens_axis"], ["noun_token"], keepdims=1),
        helper.make_node("Concat", ["grid_tokens", "word_tokens", "noun_token"], ["visual_tokens"], axis=1),
    ]
    return nodes, constants


def embedded_objects(generator: np.random.Generator, width: int) -> Nodes:
    """`embedded_tokens` [B, P, E] and `objects` -> `embedded`, one after the other."""
    constants = {"object_head": generator.normal(size=(OBJECT_WIDTH, width)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["objects", "object_head"], ["embedded_objects"]),
        helper.make_node("Concat", ["embedded_tokens", "embedded_objects"], ["embedded"], axis=1),
    ]
    return nodes, constants
