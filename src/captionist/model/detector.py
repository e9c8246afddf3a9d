"""detector.onnx, made from NanoDet-g: a picture in, what is where out, with nothing left to do outside the graph.

scene: uint8 [1, h, w, 3], RGB, sides divisible by 32
    -> scores float32 [1, cells, 80], probabilities
    -> boxes float32 [1, cells, 4], left, top, right and bottom as shares of the picture
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from captionist.errors import RecipeError
from captionist.inference.detector import Detector
from captionist.inference.sessions import session_options

_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,"
    "snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,"
    "fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
CLASSES = tuple(_NAMES.split(","))
"""COCO's 80 classes, in the order of the scores."""

STRIDES, BINS = (8, 16, 32), 11
"""NanoDet-g's strides, in pixels, and how many distances each of its distributions covers."""
_MEAN, _STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])  # blue, green, red


def find_nanodet(directory: str) -> Path:
    """nanodet-g.onnx of the starting weights. Raises RecipeError if it is not there."""
    path = Path(directory) / "nanodet-g.onnx"
    if not path.is_file():
        raise RecipeError(f"{path} does not exist: in a checkout, `python -m recipes.starting_weights` makes it.")
    return path


def load_detector(path: Path) -> Detector:
    """A detector.onnx, to be run on one thread."""
    return Detector(ort.InferenceSession(path, session_options(1), providers=["CPUExecutionProvider"]))


def write_detector(nanodet: Path, path: Path) -> None:
    """Write detector.onnx to `path`, with its weights inside, from nanodet-g.onnx of the starting weights."""
    model = onnx.load(nanodet)
    graph = model.graph
    before = _read_pixels(graph)
    after = _decode_boxes(graph)
    nodes = [*before, *graph.node, *after]
    initializers = list(graph.initializer)
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "detector",
            [helper.make_tensor_value_info("scene", TensorProto.UINT8, [1, "height", "width", 3])],
            [
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, "cells", len(CLASSES)]),
                helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, "cells", 4]),
            ],
            initializers,
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    onnx.checker.check_model(made)
    onnx.save(made, path)


def _read_pixels(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Read RGB pixels instead of normalised BGR ones: the order and the scale go into the first convolution.

    The mean must be subtracted before it, since the convolution pads with zeros.
    """
    (first,) = (node for node in graph.node if "image" in node.input)
    kernel = next(tensor for tensor in graph.initializer if tensor.name == first.input[1])
    scaled = numpy_helper.to_array(kernel) / _STD[:, None, None]
    kernel.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(scaled[:, ::-1], np.float32), kernel.name))
    graph.initializer.append(numpy_helper.from_array(_MEAN[::-1].astype(np.float32), "mean"))
    return [
        helper.make_node("Cast", ["scene"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["image"], perm=[0, 3, 1, 2]),
    ]


def _decode_boxes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """From distributions of distances to shares of the picture, clipped to it."""
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def emit(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    shape, last = emit("Shape", ["scene"], "shape"), constant("last", [-1])
    zero, one = constant("zero", 0), constant("one", 1)
    for stride in STRIDES:
        # The middle of a cell, in cells: plus half a cell, minus half a pixel.
        middle = constant(f"middle_{stride}", np.float32(0.5 - 0.5 / stride))
        counts = emit("Div", [shape, constant(f"stride_{stride}", stride)], f"counts_{stride}")
        floats = emit("Cast", [counts], f"floats_{stride}", to=TensorProto.FLOAT)
        axes = []
        for axis, name in ((1, "rows"), (2, "columns")):
            place = constant(f"axis_{name}_{stride}", axis)
            count = emit("Gather", [counts, place], f"{name}_{stride}")
            whole = emit("Range", [zero, count, one], f"{name}_{stride}/whole")
            at = emit("Cast", [whole], f"{name}_{stride}/at", to=TensorProto.FLOAT)
            axes.append(emit("Add", [at, middle], f"{name}_{stride}/middles"))
        rows = emit("Unsqueeze", [axes[0], constant(f"down_{stride}", [1])], f"rows_{stride}/down")
        grid = emit("Gather", [counts, constant(f"sides_{stride}", [1, 2])], f"grid_{stride}")
        centres = [
            emit("Reshape", [emit("Expand", [source, grid], f"{name}_{stride}/map"), last], f"{name}_{stride}/flat")
            for name, source in (("columns", axes[1]), ("rows", rows))
        ]
        columns = [emit("Unsqueeze", [centre, last], f"{centre}/column") for centre in centres]
        centre = emit("Concat", columns * 2, f"centres_{stride}", axis=1)  # left, top, right, bottom
        sized = constant(f"by_side_{stride}", [0, 0, 4, BINS])
        bins = emit("Reshape", [f"boxes_{stride}", sized], f"bins_{stride}")
        shares = emit("Softmax", [bins], f"shares_{stride}", axis=-1)
        numbers = constant(f"numbers_{stride}", np.arange(BINS, dtype=np.float32))
        distance = emit("MatMul", [shares, numbers], f"distances_{stride}")
        signs = constant(f"signs_{stride}", np.array([-1, -1, 1, 1], np.float32))
        signed = emit("Mul", [distance, signs], f"signed_{stride}")
        edges = emit("Add", [signed, centre], f"edges_{stride}")
        sides = emit("Gather", [floats, constant(f"xyxy_{stride}", [2, 1, 2, 1])], f"sides_{stride}/cells")
        emit("Div", [edges, sides], f"unclipped_{stride}")
    emit("Concat", [f"unclipped_{stride}" for stride in STRIDES], "unclipped", axis=1)
    emit("Clip", ["unclipped", constant("least", np.float32(0)), constant("most", np.float32(1))], "boxes")
    emit("Concat", [f"scores_{stride}" for stride in STRIDES], "scores", axis=1)
    return nodes
