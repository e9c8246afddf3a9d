"""NanoDet-g as ONNX: COCO's 80 classes; 3.8 million parameters.

Its weights come as a TensorFlow.js model: RangiLyu/nanodet's NanoDet-g (Apache-2.0; 22.9 mAP on COCO's pictures at 416
x 416), converted by onnx-tf, with convolutions on [B, H, W, C] between transpositions from and to [B, C, H, W], and
separate paddings and biases. Here each transposition is only noted (`_View`) until something needs it, which nothing
does before the outputs; paddings and biases are merged into the convolutions.
"""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from captionist.model.detector import STRIDES

FILES = "nanodet.json", "nanodet.bin"
_OUTPUTS = [*(f"scores_{stride}" for stride in STRIDES), *(f"boxes_{stride}" for stride in STRIDES)]
_NAMES = dict(zip(["Identity", *(f"Identity_{k}" for k in range(1, 6))], _OUTPUTS, strict=True))
_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
# The neck goes from stride 32 up to 16 and 8, and down again.
_SHRINKING = {f"PartitionedCall/resize_{k}/ResizeBilinear" for k in (2, 3)}

Array = NDArray[Any]


def convert(folder: Path) -> onnx.ModelProto:
    """NanoDet-g from `FILES` in a folder.

    The graph's input is "image": float32 [B, 3, H, W], sides divisible by 32; BGR, 0 to 255, (x - (103.53, 116.28,
    123.675)) / (57.375, 57.12, 58.395). Outputs for the strides 8, 16 and 32, cells row by row: "scores_*" float32 [B,
    cells, 80], probabilities; "boxes_*" float32 [B, cells, 44], logits of the distances from the cell's centre to left,
    top, right and bottom in strides, as distributions over 0 to 10 each. Raises ValueError for another model.
    """
    model, blob = json.loads((folder / FILES[0]).read_text()), (folder / FILES[1]).read_bytes()
    writer = _Writer(_constants(model, blob))
    todo = [node for node in model["modelTopology"]["node"] if node["op"] not in ("Const", "Placeholder")]
    while todo:  # the file's nodes are in no particular order
        node = next(node for node in todo if writer.can(node))
        todo.remove(node)
        writer.write(node)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, "H", "W"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", None, None]) for name in _OUTPUTS]
    graph = helper.make_graph(writer.nodes, "nanodet-g", [image], outputs, writer.initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def _constants(model: dict[str, Any], blob: bytes) -> dict[str, Array]:
    values, at = {}, 0
    for weight in (weight for group in model["weightsManifest"] for weight in group["weights"]):
        stored = np.dtype(weight.get("quantization", {}).get("dtype", weight["dtype"]))
        count = int(np.prod(weight["shape"], dtype=np.int64))
        array = np.frombuffer(blob, stored, count, at).reshape(weight["shape"])
        at += count * stored.itemsize
        values[weight["name"]] = array.astype(np.float32 if weight["dtype"] == "float32" else np.int64)
    return values


@dataclass(frozen=True)
class _View:
    """A tensor of the new graph with its axes in another order, and the padding that the next convolution must add."""

    tensor: str
    axes: tuple[int, ...] | None = None
    pads: tuple[int, ...] = ()

    def turned(self, axes: tuple[int, ...]) -> "_View":
        axes = tuple(self.axes[axis] for axis in axes) if self.axes else axes
        return _View(self.tensor, None if axes == tuple(range(len(axes))) else axes, self.pads)


@dataclass
class _Writer:
    known: dict[str, Array]
    views: dict[str, _View] = field(default_factory=lambda: {"input_1": _View("image")})
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def can(self, node: dict[str, Any]) -> bool:
        """Whether all inputs of the node exist."""
        return all(_name(source) in self.known or _name(source) in self.views for source in node["input"])

    def write(self, node: dict[str, Any]) -> None:
        """Add one of TensorFlow's nodes to the graph. Raises ValueError for one that NanoDet-g does not have."""
        name, kind, inputs = node["name"], node["op"], [_name(source) for source in node["input"]]
        if all(source in self.known for source in inputs):
            self.known[name] = self._folded(kind, [self.known[source] for source in inputs])
            return
        attributes, view = node.get("attr", {}), self.views.get(inputs[0])
        if kind == "Transpose" and view:
            self.views[name] = view.turned(tuple(int(axis) for axis in self.known[inputs[1]]))
        elif kind in ("Pad", "PadV2") and view:
            # With zeros before a convolution, and with the least number before the maximum: the same as ONNX's padding.
            before, after = self.known[inputs[1]].T.tolist()
            self.views[name] = _View(view.tensor, view.axes, (*before[2:], *after[2:]))
        elif kind == "Conv2D":
            _expect(_text(attributes["padding"]) == "VALID", "a padding")
            kernel = self._constant(f"{name}/kernel", self.known[inputs[1]].transpose(3, 2, 0, 1))
            self._on_channels_first("Conv", inputs[0], name, [kernel], strides=_sides(attributes["strides"]))
        elif kind == "MaxPool":
            sides = {"kernel_shape": _sides(attributes["ksize"]), "strides": _sides(attributes["strides"])}
            self._on_channels_first("MaxPool", inputs[0], name, [], **sides)
        elif kind == "ResizeBilinear":
            half = attributes.get("half_pixel_centers", {}).get("b")
            scale = 0.5 if name in _SHRINKING else 2.0
            scales = self._constant(f"{name}/scales", np.array([1, 1, scale, scale], np.float32))
            mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel" if half else "asymmetric"}
            self._on_channels_first("Resize", inputs[0], name, ["", scales], **mode)
        elif kind == "Add" and inputs[1] in self.known and view:
            (convolution,) = (node for node in self.nodes if view.tensor in node.output)
            _expect(convolution.op_type == "Conv" and len(convolution.input) == 2, "a sum with a constant")
            convolution.input.append(self._constant(f"{name}/bias", self.known[inputs[1]]))
            self.views[name] = view
        elif kind == "SplitV":
            sizes = self.known[inputs[1]]
            outputs = [name, *(f"{name}:{part}" for part in range(1, len(sizes)))]
            sources = [self._plain(inputs[0]), self._constant(f"{name}/sizes", sizes)]
            self.nodes.append(helper.make_node("Split", sources, outputs, name, axis=int(self.known[inputs[2]])))
            self.views |= {output: _View(output) for output in outputs}
        elif kind == "ConcatV2":
            self._emit(
                "Concat", [self._plain(source) for source in inputs[:-1]], name, axis=int(self.known[inputs[-1]])
            )
        elif kind == "Reshape":  # a map's channels and cells
            shape = np.array([0, self.known[inputs[1]][1], -1])
            self._emit("Reshape", [self._plain(inputs[0]), self._constant(f"{name}/shape", shape)], name)
        elif kind == "LeakyRelu":
            self._emit(kind, [self._plain(inputs[0])], name, alpha=float(attributes["alpha"]["f"]))
        elif kind in ("Add", "Sigmoid"):
            self._emit(kind, [self._plain(source) for source in inputs], name)
        elif kind == "Identity" and view and view.axes:
            self._emit("Transpose", [view.tensor], _NAMES[name], perm=view.axes)
        else:
            raise ValueError(f"NanoDet-g has no {kind} such as {name}: this is another model")

    def _folded(self, kind: str, values: list[Array]) -> Array:
        """A node with only constant inputs, which are sizes; of all of them, only channels are used."""
        if kind == "AddV2":
            return np.asarray(values[0] + values[1])
        _expect(kind == "SparseToDense", f"a constant {kind}")
        dense = np.full(values[1], values[3].reshape(-1)[0])
        dense[values[0].reshape(-1)] = values[2]
        return dense

    def _on_channels_first(self, kind: str, source: str, name: str, more: list[str], **attributes: Any) -> None:
        """What TensorFlow does on [B, H, W, C], on [B, C, H, W] for ONNX."""
        view = self.views[source].turned(_CHANNELS_FIRST)
        _expect(view.axes is None, "a map of other axes")
        if view.pads:
            attributes["pads"] = view.pads
        self._emit(kind, [view.tensor, *more], name, **attributes)
        self.views[name] = _View(name, _CHANNELS_LAST)

    def _plain(self, source: str) -> str:
        view = self.views[source]
        _expect(view.axes is None and not view.pads, "a map of other axes")
        return view.tensor

    def _constant(self, name: str, array: Array) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _emit(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        self.views[output] = _View(output)


def _name(source: str) -> str:
    return source.removesuffix(":0")


def _text(attribute: dict[str, str]) -> str:
    text = attribute["s"]
    return text if text == "VALID" else base64.b64decode(text).decode()


def _sides(attribute: dict[str, Any]) -> list[int]:
    return [int(size) for size in attribute["list"]["i"]][1:3]


def _expect(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"NanoDet-g has not {what} like this: this is another model")
