"""Eight-bit arithmetic for exported graphs.

Convolutions (EfficientNet's; Jacob et al. 2018) have a scale per channel for weights, and for activations the ranges
measured on train pictures.

Matrix products measure their inputs as they run. The encoder and prefill, which read whole pictures, have a scale per
column, and one for all inputs of a product. They run for one picture at a time, so that no picture's caption depends
on its neighbours'. So does the step of a small decoder. A large decoder's weights take longer to read than to compute
with, so its step reads rows of several pictures at once, with scales for blocks of each row.

Processors without VNNI (AVX2 alone) add two neighbouring products of an unsigned and a signed byte in 16 bits, and cut
off what does not fit. Weights of 7 bits always fit, so that every processor gives the same result (`reduce_range`).
Products by row are not computed in this way.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

_BLOCK = 128
_IN_INT8 = 4  # MatMulNBits' name for integer arithmetic
_LARGE = 1_500_000_000  # bytes; more weights than this go beside the graph: protobuf holds less than 2 GiB
_SMOOTHED = 0.3  # the share of the difference in size that moves from the inputs to the weights
_SELECTING = ("Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_KEPT = 6  # the first convolutions: with few channels and many pixels, int8 gains little there and costs most


Feed = dict[str, NDArray[Any]]
"""A graph's inputs for one picture, by name."""


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._rest = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._rest, None)


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph; the weights of a large one go to a file beside it."""
    beside = weights_beside(path)
    beside.unlink(missing_ok=True)
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > _LARGE
    onnx.save(model, path, save_as_external_data=large, location=beside.name if large else None)


def weights_beside(path: Path) -> Path:
    """Where a large graph's weights are until they move to the file that all graphs share."""
    return path.with_name(f"{path.name}.data")


def quantize_convolutions(path: Path, feeds: Sequence[Feed]) -> None:
    """Rewrite an encoder's graph in place. feeds: its inputs for train pictures."""
    # Clip (ReLU6) belongs to the convolution before it: its bounds become the range of the output.
    _quantize(
        path, feeds, ["Conv", "Clip"], lambda nodes: [node.name for node in nodes if node.op_type == "Conv"][:_KEPT]
    )


def quantize_detector(path: Path, scenes: Sequence[NDArray[np.uint8]]) -> None:
    """Rewrite the detector's graph in place. scenes: train pictures, uint8 [h, w, 3] each.

    The layers that give scores and distances stay in float32, which is more exact and costs little.
    """

    def heads(nodes: Sequence[onnx.NodeProto]) -> list[str]:
        results = {name for node in nodes if node.op_type == "Split" for name in node.input}
        return [node.name for node in nodes if node.op_type == "Conv" and results & set(node.output)]

    _quantize(path, [{"scene": scene[None]} for scene in scenes], ["Conv"], heads)


def _quantize(
    path: Path, feeds: Sequence[Feed], kinds: list[str], kept: Callable[[Sequence[onnx.NodeProto]], list[str]]
) -> None:
    """Convert a graph's nodes of these kinds to integers, except those that `kept` names."""
    quant_pre_process(path, path, skip_symbolic_shape=True)
    with _quiet():
        quantize_static(
            path,
            path,
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=kinds,
            nodes_to_exclude=kept(onnx.load(path, load_external_data=False).graph.node),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def quantize_products(path: Path, smooth_output: bool = False) -> None:
    """Rewrite a graph's matrix products with constant weights in place; all inputs of one share a scale.

    smooth_output: even out what the output layer reads, for a prefill or a small decoder's step.
    """
    _unfold(path)
    if smooth_output:
        _smooth_output(path)
    with _quiet():
        quantize_dynamic(
            path,
            path,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QInt8,
            use_external_data_format=weights_beside(path).exists(),
        )


def quantize_products_by_row(path: Path) -> None:
    """Like `quantize_products`, with scales for blocks of 128 values in each row: rows do not affect each other."""
    _unfold(path)
    graph = onnx.load(path)
    quantizer = MatMulNBitsQuantizer(graph, bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=_IN_INT8)
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    quantizer.process()
    save_graph(quantizer.model.model, path)


def _smooth_output(path: Path) -> None:
    """Even out the output layer's inputs, and scale its matrix to make up for that.

    The inputs have outliers, for which one scale would be too coarse. This is SmoothQuant (Xiao et al. 2023), except
    that the layer norm in front tells how large each number gets, instead of a measurement.
    """
    model = onnx.load(path)
    graph = model.graph
    vocabulary = next(output.type.tensor_type.shape.dim[-1].dim_value for output in graph.output)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}

    def size(name: str) -> Any:
        maker = makers.get(name)
        while maker is not None and maker.op_type in _SELECTING:
            maker = makers.get(maker.input[0])
        if maker is None or maker.op_type != "LayerNormalization":
            return 1.0
        return sum(abs(numpy_helper.to_array(weights[part])) for part in maker.input[1:] if part)

    for node in [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]:
        read, name = node.input
        matrix = numpy_helper.to_array(weights[name])
        if matrix.shape[-1] != vocabulary:
            continue
        largest = np.maximum(abs(matrix).max(axis=1), 1e-6)
        factor = (np.maximum(size(read), 1e-6) ** _SMOOTHED / largest ** (1 - _SMOOTHED)).astype(np.float32)
        weights[name].CopyFrom(numpy_helper.from_array(matrix * factor[:, None], name))
        graph.initializer.append(numpy_helper.from_array(1 / factor, f"{name}.smoothing"))
        node.input[0] = f"{read}.smooth"
        place = list(graph.node).index(node)
        graph.node.insert(place, helper.make_node("Mul", [read, f"{name}.smoothing"], [node.input[0]]))
    save_graph(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the quantizer logs to the root about each tensor; errors are raised, not logged."""
    root = logging.getLogger()

    def drop(record: logging.LogRecord) -> bool:
        return "onnxruntime" not in record.pathname

    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)


def _unfold(path: Path) -> None:
    """Give products with transposed weights, such as an output layer tied to the embeddings, a matrix of their own."""
    model = onnx.load(path)
    graph = model.graph
    weights, made = {tensor.name: tensor for tensor in graph.initializer}, set[str]()

    def transposed(name: str) -> str:
        own = f"{name}.transposed"
        if own not in made:
            matrix = np.ascontiguousarray(numpy_helper.to_array(weights[name]).T)
            graph.initializer.append(numpy_helper.from_array(matrix, own))
            made.add(own)
        return own

    matrices: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type == "Transpose" and node.input[0] in weights and len(weights[node.input[0]].dims) == 2:
            matrices[node.output[0]] = transposed(node.input[0])
            graph.node.remove(node)
        elif node.op_type == "Gemm" and len(node.input) == 2 and node.input[1] in weights:
            if any(a.name == "transB" and a.i for a in node.attribute):
                node.input[1] = transposed(node.input[1])
            node.op_type = "MatMul"
            del node.attribute[:]
        for place, name in enumerate(node.input):
            node.input[place] = matrices.get(name, name)
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    save_graph(model, path)
