"""The graphs of a bundle on ONNX Runtime, behind the `Decoder` protocol.

encoder.onnx: pixels [B, 3, H, W] -> visual_tokens [B, P, W]
prefill.onnx: visual_tokens [B, P, W] -> logits [B, V], attention [B, P], keys, values [B, L, heads, P + 1, width]
step.onnx: tokens, picture int64 [R], prefix_keys, prefix_values [B, L, heads, P + 1, width],
    keys, values [R, L, heads, S, width]
    -> logits [R, V], attention [R, P], keys_out, values_out [R, L, heads, S + 1, width]
image_head.onnx: visual_tokens [B, P, W] -> image_embeddings [B, E], unit vectors
sentence_head.onnx: sentences int64 [S, T], filled up with V -> sentence_embeddings [S, E], unit vectors

The last two are there where the model has an alignment. W is D, what GPT-2 reads, and `AlignmentConfig.features`.
All but tokens, picture and sentences are float32. Prefill reads the begin-of-text token after the visual ones; what it
gives is held once for each picture, whatever its beams, and a row says by `picture` to which it belongs. S is 0 at
first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from captionist.bundle import CONFIG, ENCODER, IMAGE_HEAD, PREFILL, SENTENCE_HEAD, STEP, Bundle, BundleConfig
from captionist.errors import BundleError
from captionist.inference.decoder import Step
from captionist.inference.sessions import session_options
from captionist.inference.threads import available_cores

Floats = NDArray[np.float32]
Shapes = dict[str, tuple[int | None, ...]]
"""The dimensions of each input and output by its name; None is one that differs from call to call."""

_ALONE = 512
_OUTPUTS = {
    ENCODER: ["visual_tokens"],
    PREFILL: ["logits", "attention", "keys", "values"],
    STEP: ["logits", "attention", "keys_out", "values_out"],
    IMAGE_HEAD: ["image_embeddings"],
    SENTENCE_HEAD: ["sentence_embeddings"],
}
_INPUTS = {
    ENCODER: ["pixels"],
    PREFILL: ["visual_tokens"],
    STEP: ["tokens", "picture", "prefix_keys", "prefix_values", "keys", "values"],
    IMAGE_HEAD: ["visual_tokens"],
    SENTENCE_HEAD: ["sentences"],
}


@dataclass(frozen=True, slots=True)
class Cache:
    """The keys and values of R captions of S tokens, as step.onnx takes them."""

    picture: NDArray[np.int64]
    prefix_keys: Floats
    prefix_values: Floats
    keys: Floats
    values: Floats


@dataclass(frozen=True)
class OrtDecoder:
    """A `Decoder` whose state is its key-value cache."""

    prefill_session: ort.InferenceSession
    step_session: ort.InferenceSession
    eos_id: int
    max_tokens: int

    def prefill(self, visual_tokens: Floats) -> Step:
        """visual_tokens: float32 [B, P, W]. One picture after the other, as in `Engine.encode`."""
        read = [_run(self.prefill_session, PREFILL, {"visual_tokens": picture[None]}) for picture in visual_tokens]
        logits, attention, keys, values = (np.concatenate(part) for part in zip(*read, strict=True))
        batch, layers, heads, _, width = keys.shape
        none = np.zeros((batch, layers, heads, 0, width), np.float32)
        return Step(logits, attention, Cache(np.arange(batch), keys, values, none, none))

    def step(self, tokens: NDArray[np.int64], state: Cache) -> Step:
        """tokens: int64 [R]."""
        feeds = {name: getattr(state, name) for name in _INPUTS[STEP][1:]}
        logits, attention, keys, values = _run(self.step_session, STEP, {"tokens": tokens, **feeds})
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

    def images(self, visual_tokens: Floats) -> Floats:
        """float32 [B, P, W] -> float32 [B, E]."""
        embeddings: Floats = _run(self.image_session, IMAGE_HEAD, {"visual_tokens": visual_tokens})[0]
        return embeddings

    def sentences(self, tokens: Sequence[Sequence[int]]) -> Floats:
        """The token ids of S sentences -> float32 [S, E]; zeros for one without any."""
        table = np.full((len(tokens), max(map(len, tokens), default=0)), self.filling, np.int64)
        for row, sentence in zip(table, tokens, strict=True):
            row[: len(sentence)] = sentence
        embeddings: Floats = _run(self.sentence_session, SENTENCE_HEAD, {"sentences": table})[0]
        return embeddings


class Engine:
    """A bundle's sessions. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """threads: for each session; by default the cores that this process really has.

        Raises BundleError where a graph cannot be loaded, is not of the form above or contradicts config.json (and so
        do the methods where one fails as it runs), ValueError for threads below 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, but it is {threads}")
        options, shapes = session_options(threads or available_cores()), _shapes(bundle.config)
        # A small decoder has made its step before a second thread has woken up.
        small = bundle.config.decoder.width <= _ALONE
        self._encoder = _load(bundle.path / ENCODER, options, shapes)
        self.decoder = OrtDecoder(
            _load(bundle.path / PREFILL, options, shapes),
            _load(bundle.path / STEP, session_options(1) if small else options, shapes),
            bundle.config.decoder.eos_id,
            bundle.config.decoder.max_tokens,
        )
        self.alignment: OrtAlignment | None = None
        if bundle.config.alignment is not None:
            self.alignment = OrtAlignment(
                _load(bundle.path / IMAGE_HEAD, session_options(1), shapes),
                _load(bundle.path / SENTENCE_HEAD, session_options(1), shapes),
                filling=bundle.config.vocabulary_size,
            )

    def encode(self, pixels: Floats) -> Floats:
        """Pictures to visual tokens: float32 [B, 3, H, W] -> float32 [B, P, W].

        One after the other: a batch would gain no time here, cost its size in memory, and in int8, where a product has
        one scale for all that it reads, let pictures change each other's captions.
        """
        return np.concatenate([_run(self._encoder, ENCODER, {"pixels": picture[None]})[0] for picture in pixels])


def _shapes(config: BundleConfig) -> Shapes:
    decoder, alignment = config.decoder, config.alignment
    cache = (None, decoder.layers, decoder.heads, None, decoder.head_width)
    prefix = (None, decoder.layers, decoder.heads, config.prefix_length + 1, decoder.head_width)
    embeddings = (None, alignment.width if alignment else None)
    return {
        "pixels": (None, 3, config.image.height, config.image.width),
        "visual_tokens": (None, config.prefix_length, decoder.width + (alignment.features if alignment else 0)),
        "tokens": (None,),
        "picture": (None,),
        "logits": (None, config.vocabulary_size),
        "attention": (None, config.prefix_length),
        "sentences": (None, None),
        **dict.fromkeys(("image_embeddings", "sentence_embeddings"), embeddings),
        **dict.fromkeys(("prefix_keys", "prefix_values"), prefix),
        **dict.fromkeys(("keys", "values", "keys_out", "values_out"), cache),
    }


def _load(path: Path, options: ort.SessionOptions, shapes: Shapes) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception class for each status, with no base of their own
        raise BundleError(f"{path} cannot be loaded ({_one_line(error)}): see `captionist model verify`") from error
    inputs, outputs = ([node.name for node in part] for part in (session.get_inputs(), session.get_outputs()))
    if inputs != _INPUTS[path.name] or outputs != _OUTPUTS[path.name]:
        raise BundleError(
            f"{path} maps {inputs} to {outputs}, not {_INPUTS[path.name]} to {_OUTPUTS[path.name]}: "
            "export the model again with this captionist"
        )
    for node in (*session.get_inputs(), *session.get_outputs()):
        expected = shapes[node.name]
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


def _run(session: ort.InferenceSession, graph: str, feeds: dict[str, NDArray[Any]]) -> list[Any]:
    try:
        return list(session.run(_OUTPUTS[graph], feeds))
    except Exception as error:  # as in `_load`
        raise BundleError(
            f"{graph} failed ({_one_line(error)}): see `captionist model verify`, or export the model again"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
