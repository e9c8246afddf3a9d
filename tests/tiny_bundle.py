"""A complete bundle of a few kilobytes: one attention layer with random weights, built without torch.

It looks at the picture, keeps a key-value cache and ends its captions, so everything but the quality of the captions
can be tested with it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import helper, numpy_helper
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
OBJECTS = f", float[B, {tiny_detector.CLASSES}, {OBJECT_WIDTH}] objects"
"""What graphs read, too, where there is a detector."""
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
    by_picture: bool = False,
) -> Path:
    """Write a bundle into a new directory and return it. Other seeds give other captions.

    aligned: whether it compares pictures with sentences. seeing: whether it has a detector. by_picture: whether a step
    reads captions of one picture only.
    """
    directory.mkdir(parents=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(directory / bundle.TOKENIZER))
    pieces = {token for text in SENTENCES for token in tokenizer.encode(text).ids}
    vocabulary = tokenizer.get_vocab_size()
    unused = [token for token in range(vocabulary) if token not in pieces]
    eos_id = tokenizer.get_vocab()[END_OF_TEXT]
    prefix = PREFIX + tiny_detector.SEEN if seeing else PREFIX
    graphs = _graphs(np.random.default_rng(seed), vocabulary, eos_id, unused, prefix, by_picture)
    if aligned:
        graphs |= _heads(np.random.default_rng(seed), vocabulary, prefix)
    if seeing:
        graphs[bundle.DETECTOR] = parse(*tiny_detector.detector())
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
    generator: np.random.Generator, vocabulary: int, eos_id: int, unused: list[int], prefix: int, by_picture: bool
) -> dict[str, onnx.ModelProto]:
    """The three graphs. The encoder averages patches; prefill and step share embeddings and one attention layer.

    prefix: how many tokens are before the caption. by_picture: as of `write_tiny_bundle`.
    """

    def normal(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return generator.normal(scale=scale, size=shape).astype(np.float32)

    out_bias = normal(vocabulary, scale=0.5)
    out_bias[unused] = -100  # single bytes and the like, which make no legible caption
    out_bias[eos_id] = 1.5
    weights: dict[str, NDArray[Any]] = {
        "embeddings": normal(vocabulary, WIDTH),
        "query": normal(WIDTH, WIDTH, scale=0.7),
        "key": normal(WIDTH, WIDTH, scale=0.7),
        "value": normal(WIDTH, WIDTH),
        "out": normal(WIDTH, vocabulary, scale=0.7),
        "out_bias": out_bias,
        "patches": normal(WIDTH, 3, PATCH, PATCH, scale=0.4),
        "scale": np.array((WIDTH // HEADS) ** -0.5, np.float32),
        "split_heads": np.array([0, -1, HEADS, WIDTH // HEADS]),
        "joined": np.array([0, 0, WIDTH]),
        "never": np.array(-1e9, np.float32),
        "grid_shape": np.array([0, WIDTH, PREFIX]),
        "begin": np.array([[eos_id]]),
        "prefix": np.array([prefix]),
        **{name: np.array([number]) for number, name in enumerate(("zero", "one", "two"))},
    }
    more: dict[str, NDArray[Any]] = {}
    seen, objects = "visual_tokens = Identity (grid_tokens)", ""
    if prefix != PREFIX:
        seen, more = tiny_detector.words_seen(np.random.default_rng(0), WIDTH)
        objects = OBJECTS
    cache = f"float[R, {HEADS}, S, {WIDTH // HEADS}]"
    prefix_cache = f"float[B, {HEADS}, {prefix + 1}, {WIDTH // HEADS}]"
    picture = "" if by_picture else " int64[R] picture,"
    whose = "picture_of_each = Identity (picture)"
    if by_picture:  # all rows are of the first
        whose = "zeros = Mul (tokens, zero)\n picture_of_each = ReduceMax <keepdims = 0> (zeros, one)"
    visual = f"float[B, {prefix}, {WIDTH}] visual_tokens"
    scores = f"float[B, {vocabulary}] log_probs, float[B, {prefix}] attention"
    encode = f"""encode (float[B, 3, {SIZE}, {SIZE}] pixels{objects}) => ({visual}) {{
        map = Conv <strides = [{PATCH}, {PATCH}]> (pixels, patches)
        columns = Reshape (map, grid_shape)
        grid_tokens = Transpose <perm = [0, 2, 1]> (columns)
        {seen}
    }}"""
    prefill = f"""prefill ({visual}) => ({scores}, {cache} keys_0, {cache} values_0) {{
        begin_row = Gather (embeddings, begin)
        batch_size = Shape <start = 0, end = 1> (visual_tokens)
        begin_shape = Concat <axis = 0> (batch_size, one, one)
        newest = Expand (begin_row, begin_shape)
        added = Concat <axis = 1> (visual_tokens, newest)
        {_keys_and_values("keys_0", "values_0")}
        {_attend("keys_0", "values_0")}
        log_probs = Squeeze (all_log_probs, one)
        attention = Squeeze (all_attention, one)
    }}"""
    step = f"""step (
        int64[R, T] tokens,{picture} {prefix_cache} prefix_keys_0, {prefix_cache} prefix_values_0,
        {cache} keys_0, {cache} values_0
    ) => (
        float[R, T, {vocabulary}] log_probs, float[R, T, {prefix}] attention, {cache} keys_out_0, {cache} values_out_0
    ) {{
        added = Gather (embeddings, tokens)
        newest = Identity (added)
        {_keys_and_values("new_keys", "new_values")}
        keys_out_0 = Concat <axis = 2> (keys_0, new_keys)
        values_out_0 = Concat <axis = 2> (values_0, new_values)
        {whose}
        own_prefix_keys = Gather (prefix_keys_0, picture_of_each)
        own_prefix_values = Gather (prefix_values_0, picture_of_each)
        whole_keys = Concat <axis = 2> (own_prefix_keys, keys_out_0)
        whole_values = Concat <axis = 2> (own_prefix_values, values_out_0)
        {_attend("whole_keys", "whole_values")}
        log_probs = Identity (all_log_probs)
        attention = Identity (all_attention)
    }}"""
    return {
        bundle.ENCODER: parse(encode, weights | more),
        bundle.PREFILL: parse(prefill, weights),
        bundle.STEP: parse(step, weights),
    }


def _heads(generator: np.random.Generator, vocabulary: int, prefix: int) -> dict[str, onnx.ModelProto]:
    """The two heads: sums over a picture's tokens and over a sentence's words, each made a unit vector."""
    words = generator.normal(size=(vocabulary + 1, ALIGNMENT)).astype(np.float32)
    words[vocabulary] = 0
    weights: dict[str, NDArray[Any]] = {
        "words": words,
        "image_head": generator.normal(size=(WIDTH, ALIGNMENT)).astype(np.float32),
        "one": np.array([1]),
        "least": np.array(1e-12, np.float32),
    }
    more: dict[str, NDArray[Any]] = {}
    seen, objects = "embedded = Identity (embedded_tokens)", ""
    if prefix != PREFIX:
        seen, more = tiny_detector.embedded_objects(np.random.default_rng(0), ALIGNMENT)
        objects = OBJECTS
    unit = """sum = ReduceSum <keepdims = 0> (embedded, one)
        length = ReduceL2 (sum, one)
        divisor = Max (length, least)"""
    visual = f"float[B, {prefix}, {WIDTH}] visual_tokens"
    image = f"""image ({visual}{objects}) => (float[B, {ALIGNMENT}] image_embeddings) {{
        embedded_tokens = MatMul (visual_tokens, image_head)
        {seen}
        {unit}
        image_embeddings = Div (sum, divisor)
    }}"""
    sentence = f"""sentence (int64[S, T] sentences) => (float[S, {ALIGNMENT}] sentence_embeddings) {{
        embedded = Gather (words, sentences)
        {unit}
        sentence_embeddings = Div (sum, divisor)
    }}"""
    return {bundle.IMAGE_HEAD: parse(image, weights | more), bundle.SENTENCE_HEAD: parse(sentence, weights)}


def _keys_and_values(keys: str, values: str) -> str:
    """[B, T, WIDTH] `added` -> [B, HEADS, T, WIDTH / HEADS] of each."""
    return "\n".join(
        f"""{result}_flat = MatMul (added, {weight})
        {result}_split = Reshape ({result}_flat, split_heads)
        {result} = Transpose <perm = [0, 2, 1, 3]> ({result}_split)"""
        for weight, result in (("key", keys), ("value", values))
    )


def _attend(keys: str, values: str) -> str:
    """The newest positions look at all of the cache up to themselves -> `all_log_probs` and `all_attention`."""
    # Of a matrix [T, S + T], `later` is what is right of the diagonal that ends in its last corner.
    return f"""query_flat = MatMul (newest, query)
        query_split = Reshape (query_flat, split_heads)
        query_heads = Transpose <perm = [0, 2, 1, 3]> (query_split)
        keys_turned = Transpose <perm = [0, 1, 3, 2]> ({keys})
        products = MatMul (query_heads, keys_turned)
        scaled = Mul (products, scale)
        square = Shape <start = 2, end = 4> (scaled)
        new = Shape <start = 2, end = 3> (scaled)
        whole = Shape <start = 3, end = 4> (scaled)
        earlier = Sub (whole, new)
        diagonal_row = Add (earlier, one)
        diagonal = Squeeze (diagonal_row)
        nowhere = Expand (never, square)
        later = Trilu <upper = 1> (nowhere, diagonal)
        masked = Add (scaled, later)
        weights = Softmax <axis = -1> (masked)
        context_heads = MatMul (weights, {values})
        context_split = Transpose <perm = [0, 2, 1, 3]> (context_heads)
        context = Reshape (context_split, joined)
        hidden = Add (context, newest)
        unbiased = MatMul (hidden, out)
        logits = Add (unbiased, out_bias)
        all_log_probs = LogSoftmax <axis = -1> (logits)
        looks = ReduceMean <keepdims = 0> (weights, one)
        all_attention = Slice (looks, zero, prefix, two)"""


def parse(text: str, weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """A graph in ONNX's own notation, with those of the weights that it names."""
    graph = onnx.parser.parse_graph(text)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items() if name in used)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
