"""The graphs of a bundle on ONNX Runtime, behind the `Decoder` protocol.

detector.onnx: see `inference.detector`
encoder.onnx: pixels [B, 3, H, W], objects [B, K, 6] -> visual_tokens [B, P, W]
prefill.onnx: visual_tokens [B, P, W] -> logits [B, V], attention [B, P], keys, values [B, L, heads, P + 1, width]
step.onnx: tokens int64 [R, T], picture int64 [R], prefix_keys, prefix_values [B, L, heads, P + 1, width],
    keys, values [R, L, heads, S, width]
    -> logits [R, T, V], attention [R, T, P], keys_out, values_out [R, L, heads, S + T, width]
image_head.onnx: visual_tokens [B, P, W], objects [B, K, 6] -> image_embeddings [B, E], unit vectors
sentence_head.onnx: sentences int64 [S, T], filled up with V -> sentence_embeddings [S, E], unit vectors

The last two are there where the model has an alignment, detector.onnx and the inputs `objects` where it has a detector.
W is D, what GPT-2 reads, and `AlignmentConfig.features`. All but scene, tokens, picture and sentences are float32.
Prefill reads the begin-of-text token after the visual ones; what it gives is held once for each picture, whatever its
beams, and a row says by `picture` to which it belongs. A step reads the next T tokens of each row; S is 0 at first.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from captionist.bundle import (
    CONFIG,
    DETECTOR,
    ENCODER,
    IMAGE_HEAD,
    PREFILL,
    SENTENCE_HEAD,
    STEP,
    Bundle,
    BundleConfig,
    DecoderConfig,
)
from captionist.errors import BundleError
from captionist.inference import detector
from captionist.inference.decoder import Step
from captionist.inference.detector import Detector
from captionist.inference.encoding import Encoding, Prepared
from captionist.inference.sessions import known_providers, one_line, run, session_options
from captionist.inference.threads import available_cores

Floats = NDArray[np.float32]
Shapes = dict[str, tuple[int | None, ...]]
"""The dimensions of each input and output by its name, which the graph's stands before where another has one of that
name; None is one that differs from call to call."""

_ALONE = 512
_OUTPUTS = {
    DETECTOR: detector.OUTPUTS,
    ENCODER: ["visual_tokens"],
    PREFILL: ["logits", "attention", "keys", "values"],
    STEP: ["logits", "attention", "keys_out", "values_out"],
    IMAGE_HEAD: ["image_embeddings"],
    SENTENCE_HEAD: ["sentence_embeddings"],
}
_INPUTS = {
    DETECTOR: detector.INPUTS,
    ENCODER: ["pixels"],
    PREFILL: ["visual_tokens"],
    STEP: ["tokens", "picture", "prefix_keys", "prefix_values", "keys", "values"],
    IMAGE_HEAD: ["visual_tokens"],
    SENTENCE_HEAD: ["sentences"],
}
_SEEING = ENCODER, IMAGE_HEAD
"""Whose inputs end with `objects` where there is a detector."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The keys and values of R captions of S tokens, as step.onnx takes them."""

    picture: NDArray[np.int64]
    prefix_keys: Floats
    prefix_values: Floats
    keys: Floats
    values: Floats

    def of_picture(self, picture: int, rows: NDArray[np.int64]) -> "Cache":
        """That of the rows of one picture, whose prefix is not copied."""
        own = slice(picture, picture + 1)
        prefix_keys, prefix_values = self.prefix_keys[own], self.prefix_values[own]
        return Cache(np.zeros_like(rows), prefix_keys, prefix_values, self.keys[rows], self.values[rows])


@dataclass(frozen=True)
class OrtDecoder:
    """A `Decoder` whose state is its key-value cache."""

    prefill_session: ort.InferenceSession
    step_session: ort.InferenceSession
    config: DecoderConfig

    @property
    def eos_id(self) -> int:
        return self.config.eos_id

    @property
    def max_tokens(self) -> int:
        return self.config.max_tokens

    def prefill(self, visual_tokens: Floats) -> Step:
        """visual_tokens: float32 [B, P, W]. One picture after the other, as in `Engine.encode`."""
        read = [run(self.prefill_session, PREFILL, {"visual_tokens": picture[None]}) for picture in visual_tokens]
        logits, attention, keys, values = (np.concatenate(part) for part in zip(*read, strict=True))
        batch, layers, heads, _, width = keys.shape
        none = np.zeros((batch, layers, heads, 0, width), np.float32)
        return Step(logits, attention, Cache(np.arange(batch), keys, values, none, none))

    def step(self, tokens: NDArray[np.int64], state: Cache) -> Step:
        """tokens: int64 [R]."""
        return self.read(tokens[:, None], state).last()

    def read(self, tokens: NDArray[np.int64], state: Cache) -> Step:
        """tokens: int64 [R, T]."""
        pictures, places = np.unique(state.picture, return_inverse=True)
        if self.config.by_picture and len(pictures) > 1:
            groups = [np.flatnonzero(places == number) for number in range(len(pictures))]
            alone = (state.of_picture(*each) for each in zip(pictures.tolist(), groups, strict=True))
            steps = [self.read(tokens[rows], own) for rows, own in zip(groups, alone, strict=True)]
            order = np.argsort(np.concatenate(groups))
            logits, attention, keys, values = (
                np.concatenate(parts)[order]
                for parts in zip(*((s.logits, s.attention, s.state.keys, s.state.values) for s in steps), strict=True)
            )
            return Step(logits, attention, replace(state, keys=keys, values=values))
        prefix = state.prefix_keys, state.prefix_values
        if len(pictures) < len(state.prefix_keys):  # some have all their captions
            prefix = state.prefix_keys[pictures], state.prefix_values[pictures]
        feeds = (tokens, places, *prefix, state.keys, state.values)
        logits, attention, keys, values = run(self.step_session, STEP, dict(zip(_INPUTS[STEP], feeds, strict=True)))
        return Step(logits, attention, replace(state, keys=keys, values=values))

    def reorder(self, state: Cache, rows: NDArray[np.int64]) -> Cache:
        """rows: int64 [R']. Nothing is copied where the rows stay as they are."""
        if np.array_equal(rows, np.arange(len(state.picture))):
            return state
        keys, values = (part.take(rows, axis=0) for part in (state.keys, state.values))
        return replace(state, picture=state.picture[rows], keys=keys, values=values)


@dataclass(frozen=True)
class OrtAlignment:
    """The space in which pictures and sentences are compared; the product of two unit vectors is their cosine."""

    image_session: ort.InferenceSession
    sentence_session: ort.InferenceSession
    filling: int

    def images(self, encoding: Encoding) -> Floats:
        """B pictures -> float32 [B, E]."""
        feeds = {"visual_tokens": encoding.visual_tokens}
        if encoding.objects is not None:
            feeds["objects"] = encoding.objects
        embeddings: Floats = run(self.image_session, IMAGE_HEAD, feeds)[0]
        return embeddings

    def sentences(self, tokens: Sequence[Sequence[int]]) -> Floats:
        """The token ids of S sentences -> float32 [S, E]; zeros for one without any."""
        table = np.full((len(tokens), max(map(len, tokens), default=0)), self.filling, np.int64)
        for row, sentence in zip(table, tokens, strict=True):
            row[: len(sentence)] = sentence
        embeddings: Floats = run(self.sentence_session, SENTENCE_HEAD, {"sentences": table})[0]
        return embeddings


class Engine:
    """A bundle's sessions. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, threads: int | None = None, providers: Sequence[str] = ()) -> None:
        """threads: for each session; by default the cores that this process really has. providers: those of ONNX
        Runtime that shall compute, by name (see `known_providers`), the CPU where none does.

        Raises BundleError if a graph cannot be loaded, is not of the form above or contradicts config.json (and so
        do the methods where one fails as it runs), ValueError for threads below 1 or a provider that is not there.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, but it is {threads}")
        options, shapes = session_options(threads or available_cores()), _shapes(bundle.config)
        load = partial(_load, providers=known_providers(providers), shapes=shapes)
        # A small decoder has made its step before a second thread has woken up.
        small = bundle.config.decoder.width <= _ALONE
        self._detector: Detector | None = None
        if bundle.config.detector is not None:
            self._detector = Detector(load(bundle.path / DETECTOR, options))
        self._encoder = load(bundle.path / ENCODER, options)
        self.decoder = OrtDecoder(
            load(bundle.path / PREFILL, options),
            load(bundle.path / STEP, session_options(1) if small else options),
            bundle.config.decoder,
        )
        self.alignment: OrtAlignment | None = None
        if bundle.config.alignment is not None:
            self.alignment = OrtAlignment(
                load(bundle.path / IMAGE_HEAD, session_options(1)),
                load(bundle.path / SENTENCE_HEAD, session_options(1)),
                filling=bundle.config.vocabulary_size,
            )
        # The threads of ONNX Runtime are not there in a forked process, which would wait for them for ever.
        self._process = os.getpid() if options.intra_op_num_threads > 1 else None

    def encode(self, pictures: Sequence[Prepared]) -> Encoding:
        """What is seen in B pictures, at least one.

        One after the other: a batch would gain no time here, cost its size in memory, and in int8, where a product has
        one scale for all that it reads, let pictures change each other's captions.
        """
        if self._process not in (None, os.getpid()):
            raise RuntimeError("this model was loaded before the process was forked: load it in each process, or spawn")
        return Encoding.join([self._encode(picture) for picture in pictures])

    def _encode(self, picture: Prepared) -> Encoding:
        feeds, objects = {"pixels": picture.pixels[None]}, None
        if self._detector is not None:
            if picture.scene is None:
                raise ValueError("the picture was prepared for a model without a detector: prepare it with this one")
            feeds["objects"] = objects = self._detector(picture.scene)[None]
        return Encoding(run(self._encoder, ENCODER, feeds)[0], objects)


def _shapes(config: BundleConfig) -> Shapes:
    decoder, alignment = config.decoder, config.alignment
    cache = (None, decoder.layers, decoder.heads, None, decoder.head_width)
    prefix = (None, decoder.layers, decoder.heads, config.prefix_length + 1, decoder.head_width)
    embeddings = (None, alignment.width if alignment else None)
    classes = len(config.detector.classes) if config.detector else 0
    seen: Shapes = {
        "scene": (None, None, None, 3),
        "scores": (None, None, classes),
        "boxes": (None, None, 4),
        "objects": (None, classes, detector.OBJECT_WIDTH),
    }
    return {
        **(seen if config.detector else {}),
        "pixels": (None, 3, config.image.height, config.image.width),
        "visual_tokens": (None, config.prefix_length, decoder.width + (alignment.features if alignment else 0)),
        "tokens": (None, None),
        "picture": (None,),
        "logits": (None, config.vocabulary_size),
        "attention": (None, config.prefix_length),
        f"{STEP} logits": (None, None, config.vocabulary_size),
        f"{STEP} attention": (None, None, config.prefix_length),
        "sentences": (None, None),
        **dict.fromkeys(("image_embeddings", "sentence_embeddings"), embeddings),
        **dict.fromkeys(("prefix_keys", "prefix_values"), prefix),
        **dict.fromkeys(("keys", "values", "keys_out", "values_out"), cache),
    }


def _load(path: Path, options: ort.SessionOptions, providers: list[str], shapes: Shapes) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # as in `run`
        raise BundleError(
            f"{path} cannot be loaded ({one_line(error)}): check the model with `captionist model verify`"
        ) from error
    if session.get_providers()[0] != providers[0]:  # ONNX Runtime would go on with the CPU
        raise BundleError(f"{providers[0]} does not start on this machine: see its messages, or run without it")
    seen = ["objects"] if path.name in _SEEING and "objects" in shapes else []
    expected_inputs = _INPUTS[path.name] + seen
    inputs, outputs = ([node.name for node in part] for part in (session.get_inputs(), session.get_outputs()))
    if inputs != expected_inputs or outputs != _OUTPUTS[path.name]:
        raise BundleError(
            f"{path} maps {inputs} to {outputs}, not {expected_inputs} to {_OUTPUTS[path.name]}: "
            "export the model again with this captionist"
        )
    for node in (*session.get_inputs(), *session.get_outputs()):
        expected = shapes.get(f"{path.name} {node.name}") or shapes[node.name]
        # A dimension that the graph leaves open has a name, or None.
        fits = len(node.shape) == len(expected) and all(
            size is None or not isinstance(declared, int) or declared == size
            for declared, size in zip(node.shape, expected, strict=True)
        )
        if not fits:
            raise BundleError(
                f"{path}: {node.name} is {_render(node.shape)}, but by {CONFIG} it should be {_render(expected)}: "
                "export the model again"
            )
    return session


def _render(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join(str(size) if isinstance(size, int) else "any" for size in shape) + "]"
