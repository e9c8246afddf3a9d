"""A bundle's weights, read back from its graphs into torch and transformers, to be run there as others would."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from transformers import Dinov2Config, GPT2Config, GPT2LMHeadModel

from captionist.bundle import ENCODER, PREFILL, Bundle
from captionist.model.config import HybridConfig
from captionist.model.fusion import _pooling_matrix
from captionist.model.vision import HybridEncoder

_Array = NDArray[Any]


class Encoder(nn.Module):
    """Pixels float [B, 3, H, W] -> visual prefix float [B, P, D], in eager torch."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        weights = _weights(bundle.path / ENCODER)
        blocks = {name.split(".")[3] for name in weights if name.startswith("model.encoder.blocks.")}
        settings: Any = Dinov2Config(hidden_size=384, num_attention_heads=6)  # ViT-S, all that we have trained
        settings._attn_implementation = "sdpa"
        resolution = bundle.config.image.height
        self.encoder = HybridEncoder(
            HybridConfig(stem_weights="", weights="", blocks=len(blocks), resolution=resolution), settings
        )
        self.projection = nn.Linear(self.encoder.width, bundle.config.decoder.width)
        self.pooling: Tensor
        self.register_buffer("pooling", _pooling_matrix(self.encoder.grid, bundle.config.grid[0]), persistent=False)
        # The graph holds the positions pooled already; these give the same ones when they are pooled.
        pooled = torch.from_numpy(weights.pop("positions"))
        weights["model.encoder.positions"] = (torch.linalg.pinv(self.pooling) @ pooled).numpy()
        del weights["model.pooling"]
        self.load_state_dict({name.removeprefix("model."): torch.from_numpy(w) for name, w in weights.items()})
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        prefix: Tensor = self.projection(self.encoder.neck(self.encoder.backbone(pixels), self.pooling))
        return prefix


def restore_decoder(bundle: Bundle) -> GPT2LMHeadModel:
    """The bundle's decoder as transformers' own GPT-2."""
    sizes = bundle.config.decoder
    settings = GPT2Config(
        vocab_size=bundle.config.vocabulary_size,
        n_positions=sizes.max_tokens + bundle.config.prefix_length + 1,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        activation_function="gelu",
        bos_token_id=sizes.bos_id,
        eos_token_id=sizes.eos_id,
        pad_token_id=sizes.eos_id,
    )
    model = GPT2LMHeadModel(settings).eval()
    state = {}
    for name, weight in _weights(bundle.path / PREFILL).items():
        place = name.removeprefix("model.decoder.").replace("blocks.", "h.")
        if ".attn" not in place:
            place = place.replace(".c_fc", ".mlp.c_fc").replace(".c_proj", ".mlp.c_proj")
        # transformers' Conv1D keeps its matrices transposed.
        transposed = weight.ndim == 2 and place.startswith("h.")
        state[f"transformer.{place}"] = torch.from_numpy(weight.T.copy() if transposed else weight)
    missing = model.load_state_dict(state, strict=False).missing_keys
    if missing != ["lm_head.weight"]:
        raise ValueError(f"{bundle.path}: the graph lacks {missing}")
    model.tie_weights()
    return model


def _weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """A graph's weights in float32 by the names that they have in torch, matrices as nn.Linear has them.

    The exporter keeps the names of all but those matrices that it transposed; each stands before the addition of its
    bias. What is stored in fewer bits is what it stands for.
    """
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored |= {_plain(name): value for name, value in stored.items() if name.endswith(".half")}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            stored[node.output[0]] = _dequantized(*(stored[name] for name in node.input))
    names = {node.input[1]: _plain(node.input[1]) for node in graph.node if node.op_type == "Conv"}
    names |= {node.input[2]: _plain(node.input[2]) for node in graph.node if node.op_type == "Conv"}
    names |= {name: name for name in stored if name.startswith("model.") and _plain(name) == name}
    weights = {name: stored[source].astype(np.float32) for source, name in names.items()}
    products: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type in ("MatMul", "MatMulInteger"):
            products[node.output[0]] = node
        elif node.op_type in ("Cast", "Mul") and node.input[0] in products:  # what follows a product in integers
            products[node.output[0]] = products[node.input[0]]
        if node.op_type == "Add" and node.input[0] in products and node.input[1].endswith(".bias"):
            name = node.input[1].removesuffix(".bias") + ".weight"
            weights[name] = _matrix(products[node.input[0]], stored)
        elif node.op_type == "Add" and node.input[1] in stored and stored[node.input[1]].ndim == 2:
            weights["positions"] = stored[node.input[1]].astype(np.float32)  # the exporter worked them out
    return weights


def _plain(name: str) -> str:
    """The name that a weight had before it was stored in fewer bits."""
    for suffix in ("_DequantizeLinear_Output", "_quantized", "_scale", "_zero_point", ".half"):
        name = name.removesuffix(suffix)
    return name


def _dequantized(values: _Array, scale: _Array, zero: _Array) -> NDArray[np.float32]:
    """Along the first axis, as weights of convolutions and biases are."""
    shape = (-1, *[1] * (values.ndim - 1)) if scale.size > 1 else ()
    real: NDArray[np.float32] = (values.astype(np.float32) - zero.reshape(shape)) * scale.reshape(shape)
    return real


def _matrix(node: onnx.NodeProto, stored: dict[str, _Array]) -> NDArray[np.float32]:
    """float32 [N, K], the constant matrix of a product."""
    values = stored[node.input[1]].astype(np.float32)
    if node.op_type == "MatMulInteger":
        values = (values - stored[node.input[3]]) * stored[node.input[1].removesuffix("_quantized") + "_scale"]
    return values.T.copy()
