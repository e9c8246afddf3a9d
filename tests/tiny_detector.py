"""A detector for a tiny bundle, with what goes with it: it sees how red, green and blue each patch of a picture is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionist.bundle import DetectorConfig
from captionist.inference.detector import OBJECT_WIDTH

CONFIG = DetectorConfig(classes=("red", "green", "blue"), words=2, nouns=1)
CLASSES, SEEN = len(CONFIG.classes), CONFIG.words + CONFIG.nouns
_SIDE = 4

Nodes = tuple[str, dict[str, NDArray[Any]]]
"""In ONNX's own notation, and the arrays that they name."""


def detector() -> Nodes:
    """scene uint8 [1, h, w, 3] -> scores [1, 16, 3], the colours of the middles of 4 x 4 patches, and their boxes."""
    edges = np.arange(_SIDE, dtype=np.float32) / _SIDE
    top, left = np.meshgrid(edges, edges, indexing="ij")
    boxes = np.stack([left, top, left + 1 / _SIDE, top + 1 / _SIDE], axis=-1).reshape(1, -1, 4)
    arrays: dict[str, NDArray[Any]] = {
        "sizes": np.array([1, _SIDE, _SIDE, 3]),
        "flat": np.array([1, _SIDE * _SIDE, 3]),
        "brightest": np.array(255, np.float32),
        "patches": boxes.astype(np.float32),
    }
    outputs = f"float[1, cells, {CLASSES}] scores, float[1, cells, 4] boxes"
    graph = f"""detector (uint8[1, height, width, 3] scene) => ({outputs}) {{
        middles = Resize <mode = "nearest"> (scene, , , sizes)
        floats = Cast <to = 1> (middles)
        cells = Reshape (floats, flat)
        scores = Div (cells, brightest)
        boxes = Identity (patches)
    }}"""
    return graph, arrays


def words_seen(generator: np.random.Generator, width: int) -> Nodes:
    """`grid_tokens` [B, 16, W] and `objects` -> `visual_tokens`: behind them the surest classes, and what all are."""
    arrays: dict[str, NDArray[Any]] = {
        "names": generator.normal(size=(CLASSES, width)).astype(np.float32),
        "score": np.array(0),
        "words": np.array([CONFIG.words]),
    }
    nodes = """class_scores = Gather <axis = 2> (objects, score)
        sureness, surest = TopK <axis = 1> (class_scores, words)
        named = Gather (names, surest)
        sure_weights = Unsqueeze (sureness, two)
        word_tokens = Mul (named, sure_weights)
        noun_token = ReduceMean <keepdims = 1> (grid_tokens, one)
        visual_tokens = Concat <axis = 1> (grid_tokens, word_tokens, noun_token)"""
    return nodes, arrays


def embedded_objects(generator: np.random.Generator, width: int) -> Nodes:
    """`embedded_tokens` [B, P, E] and `objects` -> `embedded`, one after the other."""
    nodes = """embedded_objects = MatMul (objects, object_head)
        embedded = Concat <axis = 1> (embedded_tokens, embedded_objects)"""
    return nodes, {"object_head": generator.normal(size=(OBJECT_WIDTH, width)).astype(np.float32)}
