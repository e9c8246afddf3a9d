"""How close each stage of a caption comes to what this machine can do.

Measured: the rates of large matrix products in float32 and in int8 through the same ONNX Runtime, and of copying
memory. Counted: the multiplications and additions in each graph's convolutions and matrix products, and the bytes of
its weights. A stage's limit is whichever takes longer at these rates: computing, or reading.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from captionist.bundle import ENCODER, PREFILL, STEP, Bundle
from captionist.inference.encoding import Prepared
from captionist.inference.engine import Engine
from captionist.inference.sessions import session_options
from harness.report import circumstances, show, verdict, write

_TARGET = 0.5  # of the limit, for the encoder
_SIDE = 1024  # of the square matrices whose product is measured
_HEAD = 4096  # columns; a wider product is the output layer, which reads only the last token
_OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a bundle; by default the embedded one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rates = {
        "fp32": _product_rate("MatMul", np.float32, given.threads),
        "int8": _product_rate("MatMulInteger", np.uint8, given.threads),
        "stream": _stream_rate(),
    }
    stages = {name: _stage(name, given, rates) for name in (ENCODER, PREFILL, STEP)}
    unit = {"fp32": "GFLOP/s", "int8": "GOP/s", "stream": "GB/s"}
    show(
        f"This machine, {given.threads} thread(s)",
        ["", "rate"],
        [[name, f"{rate / 1e9:.0f} {unit[name]}"] for name, rate in rates.items()],
    )
    show(
        "One picture (one row a step)",
        ["", "ms", "GOP int8", "GOP fp32", "computing, ms", "reading, ms", "of the limit", "of the int8 rate"],
        [
            [
                name,
                f"{told['ms']:.2f}",
                f"{told['operations']['int8'] / 1e9:.2f}",
                f"{told['operations']['fp32'] / 1e9:.2f}",
                f"{told['computing_ms']:.2f}",
                f"{told['reading_ms']:.2f}",
                f"{told['of_limit']:.0%}",
                f"{told['of_int8']:.0%}",
            ]
            for name, told in stages.items()
        ],
    )
    share = stages[ENCODER]["of_limit"]
    verdicts = [["encode, of the limit", f"{_TARGET:.0%}", f"{share:.0%}", verdict(share >= _TARGET)]]
    show("Target", ["", "target", "reached", ""], verdicts)
    for name, told in stages.items():
        show(f"{name}: where the time goes", ["operator", "ms"], [[k, f"{v:.2f}"] for k, v in told["kinds"].items()])
    write(given.json, circumstances() | {"threads": given.threads, "rates": rates, "stages": stages})


def _product_rate(operator: str, dtype: Any, threads: int) -> float:
    """Operations per second of a square matrix product; a multiplication and an addition count as one each."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    result = TensorProto.FLOAT if dtype == np.float32 else TensorProto.INT32
    other = kind if dtype == np.float32 else TensorProto.INT8
    shape = [_SIDE, _SIDE]
    drawn = np.random.default_rng(0).integers(-100, 100, shape)
    raw = drawn.astype(helper.tensor_dtype_to_np_dtype(other)).tobytes()
    weights = helper.make_tensor("b", other, shape, raw, raw=True)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kind, shape)],
        [helper.make_tensor_value_info("c", result, shape)],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), session_options(threads))
    matrix = np.abs(drawn).astype(dtype)
    return 2 * _SIDE**3 / _median(lambda: session.run(None, {"a": matrix}), 20)


def _stream_rate() -> float:
    """Bytes per second that one thread reads and writes when copying more than any cache holds."""
    source = np.ones(64 << 20, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / _median(lambda: np.copyto(target, source), 7)


def _stage(graph: str, given: argparse.Namespace, rates: dict[str, float]) -> dict[str, Any]:
    bundle = Bundle.open(given.model)
    feeds, rows = _feeds(bundle)[graph]
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(given.threads)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = ort.InferenceSession(bundle.path / graph, options)
        for _ in range(given.repeat):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kinds: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kinds[event["args"]["op_name"]] += event["dur"] / 1000 / given.repeat
    plain = ort.InferenceSession(bundle.path / graph, session_options(given.threads))
    seconds = _median(lambda: plain.run(None, feeds), given.repeat)
    operations = _operations(onnx.load(bundle.path / graph).graph, rows)
    computing = sum(count / rates[kind] for kind, count in operations.items())
    total = sum(operations.values())
    reading = _bytes(bundle.path / graph) / rates["stream"]
    return {
        "ms": 1000 * seconds,
        "operations": operations,
        "of_int8": total / rates["int8"] / seconds,
        "computing_ms": 1000 * computing,
        "reading_ms": 1000 * reading,
        "of_limit": max(computing, reading) / seconds,
        "kinds": dict(kinds.most_common(6)),
    }


def _operations(graph: onnx.GraphProto, rows: int) -> dict[str, float]:
    """Multiplications and additions of the products with constant weights, by the arithmetic that they are done in.

    rows: how many tokens go into the matrix products. Attention's own products are left out: they are a percent or two.
    """
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=_OPSETS)).graph
    outputs = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inferred.value_info}
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type in ("DequantizeLinear", "Cast")}
    operations = {"fp32": 0.0, "int8": 0.0}
    for node in graph.node:
        weights = node.input[1] if len(node.input) > 1 else ""
        eight = stored.get(weights, "").endswith("_quantized")
        shape = shapes.get(weights) or shapes.get(stored.get(weights, ""))
        if node.op_type == "Conv" and shape:
            # Each weight is used once at each output position, whether the convolution is grouped or not.
            operations["int8" if eight else "fp32"] += 2 * prod(shape) * prod(outputs[node.output[0]][2:])
        elif node.op_type == "MatMulNBits":
            sizes = {attribute.name: attribute.i for attribute in node.attribute}
            operations["int8"] += 2 * sizes["K"] * sizes["N"] * (1 if sizes["N"] > _HEAD else rows)
        elif node.op_type in ("MatMul", "Gemm", "MatMulInteger") and shape and len(shape) == 2:
            kind = "int8" if node.op_type == "MatMulInteger" else "fp32"
            operations[kind] += 2 * prod(shape) * (1 if max(shape) > _HEAD else rows)
    return operations


def _bytes(path: Path) -> int:
    """Bytes of a graph's weights as they are read, in 8 bits or in float32; none for tables: only rows are read."""
    graph = onnx.load(path).graph
    tables = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    total = 0
    for tensor in graph.initializer:
        if tensor.name in tables:
            continue
        size = prod(tensor.dims)
        total += size if tensor.data_type in (TensorProto.UINT8, TensorProto.INT8) else 4 * size
    return total


def _feeds(bundle: Bundle) -> dict[str, tuple[dict[str, Any], int]]:
    """Each graph's inputs in the middle of a caption, and how many tokens those are."""
    config, engine = bundle.config, Engine(bundle, threads=1)
    pixels = np.random.default_rng(0).normal(size=(1, 3, config.image.height, config.image.width)).astype(np.float32)
    scene = None if config.detector is None else np.zeros((256, 256, 3), np.uint8)
    encoding = engine.encode([Prepared(pixels[0], scene)])
    tokens, seen = encoding.visual_tokens, {} if encoding.objects is None else {"objects": encoding.objects}
    cache = engine.decoder.step(np.array([1]), engine.decoder.prefill(tokens).state).state
    return {
        ENCODER: ({"pixels": pixels} | seen, config.prefix_length),
        PREFILL: ({"visual_tokens": tokens}, config.prefix_length + 1),
        STEP: (engine.decoder.feeds(np.array([[1]]), cache), 1),
    }


def _median(work: Callable[[], Any], times: int) -> float:
    taken = []
    for _ in range(times + 2):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[2:])


if __name__ == "__main__":
    main()
