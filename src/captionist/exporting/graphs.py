"""The model's ONNX graphs, and the one file of weights that they share."""

import hashlib
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from captionist.bundle import DETECTOR, ENCODER, IMAGE_HEAD, PREFILL, SENTENCE_HEAD, STEP
from captionist.exporting.quantization import (
    Feed,
    quantize_convolutions,
    quantize_detector,
    quantize_products,
    quantize_products_by_row,
    save_graph,
    weights_beside,
)
from captionist.inference.detector import OBJECT_WIDTH
from captionist.inference.encoding import Prepared
from captionist.inference.form import PICTURE, is_small, layered
from captionist.model.alignment import Alignment
from captionist.model.detector import CLASSES, find_nanodet, load_detector, write_detector
from captionist.model.fusion import Decoded, VisionPrefixLM
from captionist.model.vision import HybridEncoder

Precision = Literal["fp32", "fp16", "int8"]
"""fp16: weights are stored in half precision, which halves the bundle; arithmetic stays in float32.
int8: convolutions and matrix products use 8-bit integers (see `quantization`); other weights are stored as in fp16."""

WEIGHTS = "weights.bin"
_OPSET = 20
_SHARED_FROM = 1024  # bytes; smaller tensors stay inside their graph


class _Encode(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, objects: Tensor | None = None) -> Tensor:
        tokens: Tensor = self.model.encode(pixels, objects=objects)
        return tokens


class _Prefill(_Encode):
    def forward(self, visual_tokens: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return _said(self.model.prefill(visual_tokens))


class _ImageHead(_Encode):
    def forward(self, visual_tokens: Tensor, objects: Tensor | None = None) -> Tensor:
        embedded: Tensor = self.model.embed(visual_tokens, objects)
        return embedded


class _SentenceHead(nn.Module):
    def __init__(self, alignment: Alignment) -> None:
        super().__init__()
        self.alignment = alignment

    def forward(self, sentences: Tensor) -> Tensor:
        vocabulary = self.alignment.words.num_embeddings  # this number pads sentences to the longest one
        return self.alignment.read(sentences.clamp(max=vocabulary - 1), sentences < vocabulary)


class _Step(_Encode):
    def forward(  # type: ignore[override]
        self, tokens: Tensor, picture: Tensor, prefix_keys: Any, prefix_values: Any, keys: Any, values: Any
    ) -> tuple[Tensor, ...]:
        return _said(self.model.step(tokens, picture, prefix_keys, prefix_values, keys, values))


class _StepOfOne(_Encode):
    def forward(  # type: ignore[override]
        self, tokens: Tensor, prefix_keys: Any, prefix_values: Any, keys: Any, values: Any
    ) -> tuple[Tensor, ...]:
        return _said(self.model.step(tokens, None, prefix_keys, prefix_values, keys, values))


def _said(decoded: Decoded) -> tuple[Tensor, ...]:
    return decoded.logits.log_softmax(-1), decoded.attention, *decoded.keys, *decoded.values


def write_graphs(
    model: VisionPrefixLM, directory: Path, precision: Precision, pictures: Sequence[Prepared] = ()
) -> None:
    """Write encoder.onnx, prefill.onnx, step.onnx, weights.bin and, if there are any, the detector and the heads.

    Batch and cache length are dynamic.

    Args: model in evaluation mode on the CPU; precision as in `Precision`; pictures: prepared train pictures, only for
    int8, which measures activations on them. Raises RecipeError if the detector cannot be found.
    """
    settings, width = model.decoder.config, model.decoder.config.n_embd
    resolution = model.config.encoder.resolution

    small = precision == "int8" and is_small(width)
    batch = Dim("batch")
    seen = (torch.zeros(2, len(CLASSES), OBJECT_WIDTH),) if model.words else ()
    export_graph(
        _Encode(model),
        (torch.zeros(2, 3, resolution, resolution), *seen),
        ["visual_tokens"],
        [{0: batch}, *({0: batch} for _ in seen)],
        directory / ENCODER,
    )
    visual_tokens = torch.zeros(2, model.prefix_length, model.token_width)
    export_decoder(model, visual_tokens, settings.n_positions - model.prefix_length - 2, directory, alone=small)
    graphs = [directory / name for name in (ENCODER, PREFILL, STEP)]
    feeds: list[Feed] = [{"pixels": picture.pixels[None]} for picture in pictures]
    if model.config.words is not None:
        graphs.append(directory / DETECTOR)
        scenes = [picture.scene for picture in pictures if picture.scene is not None]
        write_detector(find_nanodet(model.config.words.detector), graphs[-1])
        if precision == "int8":
            quantize_detector(graphs[-1], scenes)
        detector = load_detector(graphs[-1])
        feeds = [feed | {"objects": detector(scene)[None]} for feed, scene in zip(feeds, scenes, strict=True)]
    if model.alignment is not None:
        graphs += [directory / name for name in (IMAGE_HEAD, SENTENCE_HEAD)]
        export_graph(
            _ImageHead(model),
            (torch.zeros(2, model.prefix_length, model.token_width), *seen),
            ["image_embeddings"],
            [{0: batch}, *({0: batch} for _ in seen)],
            directory / IMAGE_HEAD,
        )
        export_graph(
            _SentenceHead(model.alignment),
            (torch.zeros(3, 4, dtype=torch.int64),),
            ["sentence_embeddings"],
            [{0: Dim("sentences"), 1: Dim("tokens")}],
            directory / SENTENCE_HEAD,
        )
    if precision == "int8":
        if isinstance(model.encoder, HybridEncoder):  # a plain ViT has only one, for its patches
            quantize_convolutions(directory / ENCODER, feeds)
        quantize_products(directory / ENCODER)
        quantize_products(directory / PREFILL, smooth_output=True)
        if small:
            quantize_products(directory / STEP, smooth_output=True)
        else:
            quantize_products_by_row(directory / STEP)
    share_weights(graphs, directory / WEIGHTS, half=precision != "fp32")


def round_to_half(model: VisionPrefixLM) -> None:
    """Round the model's weights to those of a bundle in half precision."""
    for parameter in model.parameters():
        if parameter.nbytes >= _SHARED_FROM:
            parameter.data = parameter.data.half().float()


def export_decoder(decoder: Any, visual_tokens: Tensor, longest: int, directory: Path, alone: bool = False) -> None:
    """Write prefill.onnx and step.onnx of a decoder with the `prefill` and `step` of `VisionPrefixLM`.

    visual_tokens: float [2, P, W], any. longest: how many tokens of a caption may precede the last. alone: the step
    reads captions of one picture only.
    """
    batch, rows, length, new = Dim("batch"), Dim("rows"), Dim("length", max=longest), Dim("new", max=longest)
    with torch.inference_mode():
        read = decoder.prefill(visual_tokens).keys
    layers = len(read)
    outputs = ["log_probs", "attention", *layered(layers, "keys", "values")]
    export_graph(_Prefill(decoder), (visual_tokens,), outputs, [{0: batch}], directory / PREFILL)
    # Keys and values need tensors of their own, or the exporter would take them for the same input.
    prefix = [tuple(torch.zeros_like(part[:1] if alone else part) for part in read) for _ in range(2)]
    own = [tuple(torch.zeros(5, part.shape[1], 2, part.shape[3]) for part in read) for _ in range(2)]
    shared, grown = ({} if alone else {0: batch},) * layers, ({0: rows, 2: length},) * layers
    arguments = [torch.ones(5, 3, dtype=torch.int64), torch.ones(5, dtype=torch.int64), *prefix, *own]
    shapes = [{0: rows, 1: new}, {0: rows}, shared, shared, grown, grown]
    inputs = ["tokens", PICTURE, *layered(layers, "prefix_keys", "prefix_values", "keys", "values")]
    if alone:
        del arguments[1], shapes[1], inputs[1]
    outputs = ["log_probs", "attention", *layered(layers, "keys_out", "values_out")]
    step = _StepOfOne(decoder) if alone else _Step(decoder)
    export_graph(step, tuple(arguments), outputs, shapes, directory / STEP, inputs)


def export_graph(
    module: nn.Module,
    arguments: tuple[Any, ...],
    outputs: list[str],
    shapes: Sequence[Any],
    path: Path,
    inputs: list[str] | None = None,
) -> None:
    """Write a module as a graph.

    shapes: for each argument, or each of its parts, the dimensions that vary from call to call. inputs: the names of
    all inputs, by default those of the module's arguments.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports every operator of torchvision as missing
    for name in ("onnx_ir", "onnxscript"):  # they report every tensor that appears twice, and every node left unchanged
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about torch's own code
        warnings.filterwarnings("ignore", ".*axis name")  # the inputs share one batch axis on purpose
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=_OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple(shapes),
            verbose=False,
        )
    assert program is not None
    save_graph(program.model_proto, path)


def share_weights(graphs: Iterable[Path], weights: Path, half: bool) -> None:
    """Move the graphs' weights to one file, each distinct tensor once: prefill and step share theirs."""
    offsets: dict[str, int] = {}
    with weights.open("wb") as file:
        for path in graphs:
            graph = onnx.load(path)
            casts = []
            for tensor in graph.graph.initializer:
                values = numpy_helper.to_array(tensor)
                if values.nbytes < _SHARED_FROM:
                    continue
                if half and values.dtype == np.float32:
                    values = values.astype(np.float16)
                    stored = f"{tensor.name}.half"
                    if not _look_up(graph.graph, tensor.name, stored):
                        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
                    tensor.name = stored
                content = np.ascontiguousarray(values).tobytes()
                digest = hashlib.sha256(content).hexdigest()
                if digest not in offsets:
                    file.write(b"\0" * (-file.tell() % 64))  # aligned, so that the file can be mapped
                    offsets[digest] = file.tell()
                    file.write(content)
                _point_to(tensor, values, weights.name, offsets[digest], len(content))
            for node in reversed(casts):
                graph.graph.node.insert(0, node)
            _forget_origins(graph)
            onnx.save(graph, path)
            weights_beside(path).unlink(missing_ok=True)


def _look_up(graph: onnx.GraphProto, name: str, stored: str) -> bool:
    """Look rows up in the stored table and cast only those; False if the table has other uses, too."""
    readers = [node for node in graph.node if name in node.input]
    if not readers or any(node.op_type != "Gather" or node.input[0] != name for node in readers):
        return False
    for node in readers:
        rows = f"{node.output[0]}.half"
        place = list(graph.node).index(node) + 1
        graph.node.insert(place, helper.make_node("Cast", [rows], [node.output[0]], to=TensorProto.FLOAT))
        node.input[0], node.output[0] = stored, rows
    return True


def _point_to(tensor: TensorProto, values: NDArray[Any], file: str, offset: int, length: int) -> None:
    tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", file), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _forget_origins(graph: onnx.ModelProto) -> None:
    """Drop the exporter's notes on source lines: they are long, and name paths of the machine."""
    del graph.graph.metadata_props[:]
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in graph.graph.value_info:
        del value.metadata_props[:]
