"""A bundle's weights, read back from its graphs, so that a bundle can be trained further.

An export in half precision or 8-bit integers has rounded them. Training continues from the rounded weights, which write
what the bundle writes.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import Tokenizer
from torch import Tensor

from captionist.bundle import ENCODER, IMAGE_HEAD, PREFILL, SENTENCE_HEAD, STEP, TOKENIZER, Bundle
from captionist.errors import TrainingError
from captionist.model.config import ModelConfig
from captionist.model.detector import CLASSES
from captionist.model.fusion import VisionPrefixLM, build_model
from captionist.model.words import NOUNS

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger")
_BETWEEN = ("Cast", "Mul")  # nodes between an integer product and its bias
_PREFIX = "model."  # the model's name in the modules that are exported
_POSITIONS = "decoder.wpe.weight"
_POOLED_POSITIONS = "encoder.pooled_positions"
_HEADS = "alignment."
_TABLE = "words.table"
_DERIVED = (".pooling", ".transposed", ".grouping", "_Transposed")


def load_bundle(bundle: Bundle, config: ModelConfig) -> VisionPrefixLM:
    """The model that was exported as `bundle`, with the vocabulary that the export kept.

    `config` is the recipe's description of it; of its pretrained weights, only the architecture is read. Raises
    TrainingError if the bundle holds another model, RecipeError if those weights cannot be found.
    """
    if bundle.config.source is not None:
        raise TrainingError(f"{bundle.path} was imported, and is not trained here: start from one of Captionist's own.")
    weights, aligned = dict(_weights(bundle)), bundle.config.alignment
    model = build_model(config.model_copy(update={"alignment": aligned and aligned.width}), [])
    seen = (bundle.config.image.height, *bundle.config.grid)
    if seen != (config.encoder.resolution, model.grid, model.grid):
        raise TrainingError(
            f"{bundle.path} is another model than the recipe's `model` describes: it reads {seen[0]} pixels a side as "
            f"{seen[1]} x {seen[2]} visual tokens."
        )
    size = bundle.config.vocabulary_size
    # All embeddings are loaded below.
    model.use_vocabulary(Tokenizer.from_file(str(bundle.path / TOKENIZER)), [0] * size)
    if aligned is not None:
        weights[f"{_HEADS}log_scale"] = torch.tensor([aligned.scale]).log()
    if model.words is not None and _TABLE in weights:
        # The graphs hold each word's embedding as one sum, and not at all the embedding for "no picture".
        weights["words.offsets"] = weights.pop(_TABLE) - model.words.spelt(weights["decoder.wte.weight"])
        weights["words.no_picture"] = model.words.no_picture
    pooled = weights.pop(_POOLED_POSITIONS, None)
    if pooled is not None:
        # Only the positions' means over the pooled places are left, and only those ever count.
        weights["encoder.positions"] = torch.linalg.pinv(model.pooling) @ pooled
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # other shapes
        raise TrainingError(f"{bundle.path} is another model than the recipe's `model` describes: {error}") from error
    if unexpected:
        raise TrainingError(
            f"{bundle.path} is another model than the recipe's `model` describes: it has {unexpected[0]}."
        )
    if missing:  # CLIP's and SigLIP's positions, which the exporter replaces by what it looked up
        raise TrainingError(
            f"{bundle.path} cannot be trained further: {missing[0]} is not in its graphs. Start from a run."
        )
    return model


def _weights(bundle: Bundle) -> Iterator[tuple[str, Tensor]]:
    """Each parameter that the graphs hold, by its name in the model."""
    heads = (IMAGE_HEAD, SENTENCE_HEAD) if bundle.config.alignment else ()
    for name in (ENCODER, PREFILL, *heads):
        graph = onnx.load(bundle.path / name).graph
        constants = _Constants(graph)
        for stored in constants.names():
            if stored.startswith((_PREFIX, _HEADS)) and not any(part in stored for part in _DERIVED):
                yield stored.removeprefix(_PREFIX), constants.read(stored)
            elif constants.read(stored).shape == (len(CLASSES) + len(NOUNS), bundle.config.decoder.width):
                yield _TABLE, constants.read(stored)
        yield from _products(graph, constants)
    # A prefill always has the same positions, so that its graph holds only those.
    yield (_POSITIONS, _Constants(onnx.load(bundle.path / STEP).graph).read(f"{_PREFIX}{_POSITIONS}"))


class _Constants:
    """A graph's initializers as the floats that they stand for, however they are stored."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def names(self) -> set[str]:
        """The tensors' names before they were rounded."""
        parts = ("_scale", "_zero_point")
        whole = {name.removesuffix(".half") for name in self._stored}
        return {name.removesuffix("_quantized") for name in whole if not name.endswith(parts)}

    def __contains__(self, name: str) -> bool:
        return any(f"{name}{ending}" in self._stored for ending in ("", ".half", "_quantized"))

    def read(self, name: str) -> Tensor:
        """float32, of the shape in the graph."""
        quantized = self._stored.get(f"{name}_quantized")
        if quantized is None:
            return torch.from_numpy(self._float(name))
        parts = name if f"{name}_zero_point" in self._stored else f"{name}_quantized"  # as biases are named
        scale, zero = self._float(f"{parts}_scale"), self._stored[f"{parts}_zero_point"].astype(np.float32)
        # A convolution has a scale for each index of its first axis, a product for each of its last.
        shape = (-1, *[1] * (quantized.ndim - 1)) if quantized.ndim != 2 else (1, -1)
        return torch.from_numpy((quantized.astype(np.float32) - zero.reshape(shape)) * scale.reshape(shape))

    def _float(self, name: str) -> NDArray[np.float32]:
        stored = self._stored.get(name, self._stored.get(f"{name}.half"))
        assert stored is not None
        return stored.astype(np.float32)


def _products(graph: onnx.GraphProto, constants: _Constants) -> Iterator[tuple[str, Tensor]]:
    """What the exporter only numbers: the matrices of linear layers, and the positions where they are pooled.

    A layer is known by the name of its bias, which is added to its product; the positions, by what they are added to.
    """
    makers = {output: node for node in graph.node for output in node.output}

    def product_of(name: str) -> onnx.NodeProto | None:
        node = makers.get(name)
        while node is not None and node.op_type in _BETWEEN:
            node = makers.get(node.input[0])
        return node if node is not None and node.op_type in _PRODUCTS else None

    for node in graph.node:
        constant = next((name for name in node.input if name in constants), None)
        if node.op_type != "Add" or constant is None:
            continue
        (other,) = (name for name in node.input if name != constant)
        product = product_of(other)
        if product is not None and constant.endswith(".bias"):
            matrix = constants.read(product.input[1].removesuffix("_quantized"))
            yield constant.removeprefix(_PREFIX).removesuffix("bias") + "weight", matrix.T.contiguous()
        elif other in makers and f"{_PREFIX}encoder.embed.bias" in makers[other].input:
            yield _POOLED_POSITIONS, constants.read(constant)
