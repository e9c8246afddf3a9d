"""A complete bundle of a few kilobytes: one attention layer with random weights, built without torch.

It looks at the picture, keeps a key-value cache and ends its captions, so everything but the quality of the captions
can be tested with it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from captionist import bundle
from captionist.inference.detector import OBJECT_WIDTH
from captionist.options import SearchOptions
from tests import tiny_detector

END_OF_TEXT = "<|endoftext|>"
SIZE, PATCH, GRID, WIDTH, HEADS = 16, 4, (4, 4), 8, 2
ALIGNMENT = 6
PREFIX = GRID[0] * GRID[1]
Shape = Sequence[str | int]
_KINDS = dict.fromkeys(("tokens", "picture", "sentences"), TensorProto.INT64) | {"scene": TensorProto.UINT8}
SENTENCES = [
    " a brown dog runs through the green grass",
    " two children play with a red ball on the beach",
    " a man in a blue shirt rides his bicycle",
    " the woman's black-and-white cat sleeps near a window .",
]


def write_tiny_bundle(
    directory: Path,
    *,
    seed: int = 0,
    name: str = "tiny",
    aligned: bool = False,
    match_weight: float = 0.0,
    seeing: bool = False,
) -> Path:
    """Write a bundle into a new directory and return it. Other seeds give other captions.

    aligned: whether it compares pictures with sentences. seeing: whether it has a detector.
    """
    directory.mkdir(parents=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(directory / bundle.TOKENIZER))
    pieces = {token for text in SENTENCES for token in tokenizer.encode(text).ids}
    vocabulary = tokenizer.get_vocab_size()
    unused = [token for token in range(vocabulary) if token not in pieces]
    eos_id = tokenizer.get_vocab()[END_OF_TEXT]
    prefix = PREFIX + tiny_detector.SEEN if seeing else PREFIX
    graphs = _graphs(np.random.default_rng(seed), vocabulary, eos_id, unused, prefix)
    if aligned:
        graphs |= _heads(np.random.default_rng(seed), vocabulary, prefix)
    if seeing:
        nodes, constants = tiny_detector.detector()
        scores: dict[str, Shape] = {"scores": [1, "cells", tiny_detector.CLASSES], "boxes": [1, "cells", 4]}
        graphs[bundle.DETECTOR] = _model(nodes, constants, {"scene": [1, "height", "width", 3]}, scores)
    for file, model in graphs.items():
        onnx.save(model, str(directory / file))
    config = bundle.BundleConfig(
        name=name,
        version="1",
        precision="fp32",
        image=bundle.ImageConfig(height=SIZE, width=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        grid=GRID,
        prefix_length=prefix,
        decoder=bundle.DecoderConfig(
            layers=1, heads=HEADS, head_width=WIDTH // HEADS, width=WIDTH, bos_id=eos_id, eos_id=eos_id, max_tokens=20
        ),
        vocabulary_size=vocabulary,
        search=SearchOptions(num_beams=2, max_tokens=8, no_repeat_ngram=2, match_weight=match_weight),
        lowercase=True,
        detector=tiny_detector.CONFIG if seeing else None,
        alignment=bundle.AlignmentConfig(width=ALIGNMENT, scale=10.0) if aligned else None,
    )
    bundle.write_config(directory, config)
    (directory / bundle.MODEL_CARD).write_text(f"# {name}\n\nRandom weights, for tests.\n")
    (directory / bundle.SCORES).write_text(json.dumps({"split": "dev", "cider": 0.0}))
    bundle.write_checksums(directory)
    return directory


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return tokenizer


def _graphs(
    generator: np.random.Generator, vocabulary: int, eos_id: int, unused: list[int], prefix: int
) -> dict[str, onnx.ModelProto]:
    """The three graphs. The encoder averages patches; prefill and step share embeddings and one attention layer.

    prefix: how many tokens are before the caption.
    """

    def normal(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return generator.normal(scale=scale, size=shape).astype(np.float32)

    out_bias = normal(vocabulary, scale=0.5)
    out_bias[unused] = -100  # single bytes and the like, which make no legible caption
    out_bias[eos_id] = 1.5
    shared: dict[str, NDArray[Any]] = {
        "embeddings": normal(vocabulary, WIDTH),
        "query": normal(WIDTH, WIDTH, scale=0.7),
        "key": normal(WIDTH, WIDTH, scale=0.7),
        "value": normal(WIDTH, WIDTH),
        "out": normal(WIDTH, vocabulary, scale=0.7),
        "out_bias": out_bias,
        "scale": np.array((WIDTH // HEADS) ** -0.5, np.float32),
        "split_heads": np.array([0, -1, HEADS, WIDTH // HEADS]),
        "joined": np.array([0, 0, WIDTH]),
        "layer_axis": np.array([1]),
        "place_axis": np.array([2]),
        "one": np.array([1]),
        "never": np.array(-1e9, np.float32),
        "visual_start": np.array([0]),
        "visual_end": np.array([prefix]),
    }
    encoder: dict[str, NDArray[Any]] = {
        "patches": normal(WIDTH, 3, PATCH, PATCH, scale=0.4),
        "tokens": np.array([0, WIDTH, PREFIX]),
    }
    encode = [
        helper.make_node("Conv", ["pixels", "patches"], ["map"], strides=[PATCH, PATCH]),
        helper.make_node("Reshape", ["map", "tokens"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["grid_tokens"], perm=[0, 2, 1]),
    ]
    if prefix == PREFIX:
        encode.append(helper.make_node("Identity", ["grid_tokens"], ["visual_tokens"]))
    else:
        nodes, constants = tiny_detector.words_seen(np.random.default_rng(0), WIDTH)
        encode, encoder = encode + nodes, encoder | constants
    begin: dict[str, NDArray[Any]] = {
        "begin": np.array([eos_id]),
        "row_shape": np.array([1, 1, WIDTH]),
        "axis_0": np.array([0]),
    }
    prefill = [
        helper.make_node("Gather", ["embeddings", "begin"], ["begin_row"]),
        helper.make_node("Reshape", ["begin_row", "row_shape"], ["begin_one"]),
        helper.make_node("Shape", ["visual_tokens"], ["batch_size"], start=0, end=1),
        helper.make_node("Concat", ["batch_size", "one_one"], ["begin_shape"], axis=0),
        helper.make_node("Expand", ["begin_one", "begin_shape"], ["newest"]),
        helper.make_node("Concat", ["visual_tokens", "newest"], ["added"], axis=1),
        *_keys_and_values("keys", "values"),
        *_attend("keys", "values"),
        helper.make_node("Squeeze", ["all_logits", "layer_axis"], ["logits"]),
        helper.make_node("Squeeze", ["all_attention", "layer_axis"], ["attention"]),
    ]
    begin["one_one"] = np.array([1, 1])
    step = [
        helper.make_node("Gather", ["embeddings", "tokens"], ["added"]),
        helper.make_node("Identity", ["added"], ["newest"]),
        *_keys_and_values("new_keys", "new_values"),
        helper.make_node("Concat", ["keys", "new_keys"], ["keys_out"], axis=3),
        helper.make_node("Concat", ["values", "new_values"], ["values_out"], axis=3),
        helper.make_node("Gather", ["prefix_keys", "picture"], ["own_prefix_keys"]),
        helper.make_node("Gather", ["prefix_values", "picture"], ["own_prefix_values"]),
        helper.make_node("Concat", ["own_prefix_keys", "keys_out"], ["whole_keys"], axis=3),
        helper.make_node("Concat", ["own_prefix_values", "values_out"], ["whole_values"], axis=3),
        *_attend("whole_keys", "whole_values"),
        helper.make_node("Identity", ["all_logits"], ["logits"]),
        helper.make_node("Identity", ["all_attention"], ["attention"]),
    ]
    cache: Shape = ["R", 1, HEADS, "S", WIDTH // HEADS]
    prefix_cache: Shape = ["B", 1, HEADS, prefix + 1, WIDTH // HEADS]
    scores: dict[str, Shape] = {"logits": ["B", vocabulary], "attention": ["B", prefix]}
    return {
        bundle.ENCODER: _model(
            encode,
            encoder,
            _read({"pixels": ["B", 3, SIZE, SIZE]}, prefix),
            {"visual_tokens": ["B", prefix, WIDTH]},
        ),
        bundle.PREFILL: _model(
            prefill,
            shared | begin,
            {"visual_tokens": ["B", prefix, WIDTH]},
            scores | {"keys": cache, "values": cache},
        ),
        bundle.STEP: _model(
            step,
            shared,
            {
                "tokens": ["R", "T"],
                "picture": ["R"],
                "prefix_keys": prefix_cache,
                "prefix_values": prefix_cache,
                "keys": cache,
                "values": cache,
            },
            {name: ["R", "T", size[-1]] for name, size in scores.items()} | {"keys_out": cache, "values_out": cache},
        ),
    }


def _heads(generator: np.random.Generator, vocabulary: int, prefix: int) -> dict[str, onnx.ModelProto]:
    """The two heads: sums over a picture's tokens and over a sentence's words, each made a unit vector."""
    words = generator.normal(size=(vocabulary + 1, ALIGNMENT)).astype(np.float32)
    words[vocabulary] = 0
    constants: dict[str, NDArray[Any]] = {
        "words": words,
        "image_head": generator.normal(size=(WIDTH, ALIGNMENT)).astype(np.float32),
        "tokens_axis": np.array([1]),
        "least": np.array(1e-12, np.float32),
    }

    def unit_vectors(result: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("ReduceSum", ["embedded", "tokens_axis"], ["sum"], keepdims=0),
            helper.make_node("ReduceL2", ["sum", "tokens_axis"], ["length"]),
            helper.make_node("Max", ["length", "least"], ["divisor"]),
            helper.make_node("Div", ["sum", "divisor"], [result]),
        ]

    embed = [helper.make_node("MatMul", ["visual_tokens", "image_head"], ["embedded_tokens"])]
    if prefix == PREFIX:
        embed.append(helper.make_node("Identity", ["embedded_tokens"], ["embedded"]))
    else:
        nodes, more = tiny_detector.embedded_objects(np.random.default_rng(0), ALIGNMENT)
        embed, constants = embed + nodes, constants | more
    return {
        bundle.IMAGE_HEAD: _model(
            [*embed, *unit_vectors("image_embeddings")],
            constants,
            _read({"visual_tokens": ["B", prefix, WIDTH]}, prefix),
            {"image_embeddings": ["B", ALIGNMENT]},
        ),
        bundle.SENTENCE_HEAD: _model(
            [helper.make_node("Gather", ["words", "sentences"], ["embedded"]), *unit_vectors("sentence_embeddings")],
            constants,
            {"sentences": ["S", "T"]},
            {"sentence_embeddings": ["S", ALIGNMENT]},
        ),
    }


def _read(inputs: dict[str, Shape], prefix: int) -> dict[str, Shape]:
    """Inputs, and the objects where there is a detector, with which the prefix is longer."""
    return inputs if prefix == PREFIX else inputs | {"objects": ["B", tiny_detector.CLASSES, OBJECT_WIDTH]}


def _keys_and_values(keys: str, values: str) -> list[onnx.NodeProto]:
    """[B, T, WIDTH] `added` -> [B, 1, HEADS, T, WIDTH / HEADS] of each."""
    nodes = []
    for weight, result in (("key", keys), ("value", values)):
        nodes += [
            helper.make_node("MatMul", ["added", weight], [f"{result}_flat"]),
            helper.make_node("Reshape", [f"{result}_flat", "split_heads"], [f"{result}_split"]),
            helper.make_node("Transpose", [f"{result}_split"], [f"{result}_heads"], perm=[0, 2, 1, 3]),
            helper.make_node("Unsqueeze", [f"{result}_heads", "layer_axis"], [result]),
        ]
    return nodes


def _attend(keys: str, values: str) -> list[onnx.NodeProto]:
    """The newest positions look at all of the cache up to themselves -> `all_logits` and `all_attention`."""
    return [
        helper.make_node("MatMul", ["newest", "query"], ["query_flat"]),
        helper.make_node("Reshape", ["query_flat", "split_heads"], ["query_split"]),
        helper.make_node("Transpose", ["query_split"], ["query_heads"], perm=[0, 2, 1, 3]),
        helper.make_node("Squeeze", [keys, "layer_axis"], ["all_keys"]),
        helper.make_node("Squeeze", [values, "layer_axis"], ["all_values"]),
        helper.make_node("Transpose", ["all_keys"], ["keys_turned"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["query_heads", "keys_turned"], ["products"]),
        helper.make_node("Mul", ["products", "scale"], ["scaled"]),
        # Of a matrix [T, S + T], what is right of the diagonal that ends in its last corner.
        helper.make_node("Shape", ["scaled"], ["square"], start=2, end=4),
        helper.make_node("Shape", ["scaled"], ["new"], start=2, end=3),
        helper.make_node("Shape", ["scaled"], ["whole"], start=3, end=4),
        helper.make_node("Sub", ["whole", "new"], ["earlier"]),
        helper.make_node("Add", ["earlier", "one"], ["diagonal_row"]),
        helper.make_node("Squeeze", ["diagonal_row"], ["diagonal"]),
        helper.make_node("Expand", ["never", "square"], ["nowhere"]),
        helper.make_node("Trilu", ["nowhere", "diagonal"], ["later"], upper=1),
        helper.make_node("Add", ["scaled", "later"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "all_values"], ["context_heads"]),
        helper.make_node("Transpose", ["context_heads"], ["context_split"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["context_split", "joined"], ["context"]),
        helper.make_node("Add", ["context", "newest"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "out"], ["unbiased"]),
        helper.make_node("Add", ["unbiased", "out_bias"], ["all_logits"]),
        helper.make_node("ReduceMean", ["weights", "layer_axis"], ["looks"], keepdims=0),
        helper.make_node("Slice", ["looks", "visual_start", "visual_end", "place_axis"], ["all_attention"]),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, _KINDS.get(name, TensorProto.FLOAT), shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name=name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
