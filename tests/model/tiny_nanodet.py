"""A stand-in for NanoDet-g with its inputs and outputs: it takes red for a dog, green for a cat, and so on."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from captionist.model.detector import BINS, CLASSES, STRIDES

KINDS = {"red": "dog", "green": "cat", "blue": "bird"}
"""What it takes each colour for; yellow is nothing."""


def save_nanodet(directory: Path) -> None:
    """Write directory/nanodet-g.onnx."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, NDArray[np.generic]] = {}
    weights["mean_kernel"] = np.eye(3, dtype=np.float32)[:, :, None, None] * np.full((8, 8), 1 / 64, np.float32)
    nodes.append(helper.make_node("Conv", ["image", "mean_kernel"], ["colours_8"], strides=[8, 8]))
    kernel, bias = np.zeros((len(CLASSES) + 4 * BINS, 3), np.float32), np.full(len(CLASSES) + 4 * BINS, -4, np.float32)
    for channel, colour in enumerate(("blue", "green", "red")):
        kind = CLASSES.index(KINDS[colour])
        kernel[kind], bias[kind] = -0.75, -2
        kernel[kind, channel] = 1.5
    bias[len(CLASSES) :] = np.tile(np.arange(BINS), 4)  # every box is of one size
    weights |= {"kernel": kernel[:, :, None, None], "bias": bias}
    weights |= {"parts": np.array([len(CLASSES), 4 * BINS])}
    for before, stride in zip((None, *STRIDES), STRIDES, strict=False):
        if before:
            pooled = helper.make_node(
                "AveragePool", [f"colours_{before}"], [f"colours_{stride}"], kernel_shape=[2, 2], strides=[2, 2]
            )
            nodes.append(pooled)
        nodes += [
            helper.make_node("Conv", [f"colours_{stride}", "kernel", "bias"], [f"found_{stride}"]),
            helper.make_node("Split", [f"found_{stride}", "parts"], [f"a_{stride}", f"b_{stride}"], axis=1),
            helper.make_node("Sigmoid", [f"a_{stride}"], [f"p_{stride}"]),
        ]
        for part, name, width in (("p", "scores", len(CLASSES)), ("b", "boxes", 4 * BINS)):
            weights[f"{name}_shape"] = np.array([1, -1, width])
            last = f"{part}_{stride}/last"
            nodes.append(helper.make_node("Transpose", [f"{part}_{stride}"], [last], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [last, f"{name}_shape"], [f"{name}_{stride}"]))
    outputs = [f"{name}_{stride}" for name in ("scores", "boxes") for stride in STRIDES]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    directory.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9),
        directory / "nanodet-g.onnx",
    )
