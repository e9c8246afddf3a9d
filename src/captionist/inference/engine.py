"""A bundle's graphs on ONNX Runtime, behind the `Decoder` protocol; `inference.form` lists their inputs and outputs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from captionist.bundle import (
    DETECTOR,
    ENCODER,
    IMAGE_HEAD,
    PREFILL,
    SENTENCE_HEAD,
    STEP,
    Bundle,
    DecoderConfig,
)
from captionist.errors import BundleError
from captionist.inference.decoder import Step
from captionist.inference.detector import Detector
from captionist.inference.encoding import Encoding, Prepared
from captionist.inference.form import PICTURE, Form, is_small
from captionist.inference.sessions import known_providers, one_line, run, session_options
from captionist.inference.threads import available_cores

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cache:
    """The keys and values of R captions of S tokens, as step.onnx takes them.

    picture: int64 [R], the prefix of each caption. prefix: for B pictures, float32 [B, heads, P + 1, width], the keys
    of all layers, then their values. own: for the captions, float32 [R, heads, S, width], in the same order.
    """

    picture: NDArray[np.int64]
    prefix: tuple[Floats, ...]
    own: tuple[Floats, ...]

    def of_picture(self, picture: int, rows: NDArray[np.int64]) -> "Cache":
        """The cache of these rows, which all belong to this picture; its prefix is not copied."""
        prefix = tuple(part[picture : picture + 1] for part in self.prefix)
        return Cache(np.zeros_like(rows), prefix, tuple(part[rows] for part in self.own))


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

    @cached_property
    def _names(self) -> list[str]:
        """The names of step.onnx's inputs."""
        return [node.name for node in self.step_session.get_inputs()]

    def prefill(self, visual_tokens: Floats) -> Step:
        """visual_tokens: float32 [B, P, W], read one picture at a time, as in `Engine.encode`."""
        read = [run(self.prefill_session, PREFILL, {"visual_tokens": picture[None]}) for picture in visual_tokens]
        log_probs, attention, *prefix = (np.concatenate(part) for part in zip(*read, strict=True))
        none = tuple(part[:, :, :0] for part in prefix)
        return Step(log_probs, attention, Cache(np.arange(len(log_probs)), tuple(prefix), none))

    def step(self, tokens: NDArray[np.int64], state: Cache) -> Step:
        """tokens: int64 [R]."""
        return self.read(tokens[:, None], state).last()

    def read(self, tokens: NDArray[np.int64], state: Cache) -> Step:
        """tokens: int64 [R, T]."""
        if PICTURE not in self._names and len(state.prefix[0]) > 1:
            pictures = np.unique(state.picture).tolist()
            groups = [np.flatnonzero(state.picture == picture) for picture in pictures]
            states = (state.of_picture(*each) for each in zip(pictures, groups, strict=True))
            steps = [self.read(tokens[rows], own) for rows, own in zip(groups, states, strict=True)]
            order = np.argsort(np.concatenate(groups))
            log_probs, attention, *own = (
                np.concatenate(parts)[order]
                for parts in zip(*((s.log_probs, s.attention, *s.state.own) for s in steps), strict=True)
            )
            return Step(log_probs, attention, replace(state, own=tuple(own)))
        log_probs, attention, *own = run(self.step_session, STEP, self.feeds(tokens, state))
        return Step(log_probs, attention, replace(state, own=tuple(own)))

    def feeds(self, tokens: NDArray[np.int64], state: Cache) -> dict[str, NDArray[Any]]:
        """The inputs of step.onnx; if it reads one picture at a time, the state must be of a single one."""
        if PICTURE not in self._names:
            return dict(zip(self._names, (tokens, *state.prefix, *state.own), strict=True))
        pictures, places = np.unique(state.picture, return_inverse=True)
        prefix = state.prefix
        if len(pictures) < len(prefix[0]):  # some pictures are finished
            prefix = tuple(part[pictures] for part in prefix)
        return dict(zip(self._names, (tokens, places, *prefix, *state.own), strict=True))

    def reorder(self, state: Cache, rows: NDArray[np.int64]) -> Cache:
        """rows: int64 [R']. Nothing is copied if the rows stay as they are."""
        if np.array_equal(rows, np.arange(len(state.picture))):
            return state
        own = tuple(part.take(rows, axis=0) for part in state.own)
        return replace(state, picture=state.picture[rows], own=own)


@dataclass(frozen=True)
class OrtAlignment:
    """Embeds pictures and sentences in one space, as unit vectors whose dot product is their cosine."""

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
        """The token ids of S sentences -> float32 [S, E]; zeros for an empty one."""
        table = np.full((len(tokens), max(map(len, tokens), default=0)), self.filling, np.int64)
        for row, sentence in zip(table, tokens, strict=True):
            row[: len(sentence)] = sentence
        embeddings: Floats = run(self.sentence_session, SENTENCE_HEAD, {"sentences": table})[0]
        return embeddings


class Engine:
    """A bundle's sessions. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, threads: int | None = None, providers: Sequence[str] = ()) -> None:
        """threads: per session, by default one for each core that this process really has. providers: ONNX
        Runtime's execution providers to use, by name (see `known_providers`); the CPU does what they cannot.

        Raises BundleError if a graph cannot be loaded, has another form or contradicts config.json; the methods raise
        it if a graph fails as it runs. Raises ValueError for threads below 1 or a provider that is not there.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, but it is {threads}")
        small = is_small(bundle.config.decoder.width)
        options = session_options(threads or available_cores(), spinning=not small)
        load = partial(_load, providers=known_providers(providers), form=Form(bundle.config))
        self._detector: Detector | None = None
        if bundle.config.detector is not None:
            self._detector = Detector(load(bundle.path / DETECTOR, options))
        self._encoder = load(bundle.path / ENCODER, options)
        self.decoder = OrtDecoder(
            load(bundle.path / PREFILL, options),
            # A small decoder finishes its step before a second thread wakes up.
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
        # A forked process lacks ONNX Runtime's threads, and would wait for them forever.
        self._process = os.getpid() if options.intra_op_num_threads > 1 else None

    def encode(self, pictures: Sequence[Prepared]) -> Encoding:
        """Encode B pictures, at least one, each on its own.

        A batch would save no time here and cost its size in memory. In int8, where a product has one scale for all its
        inputs, pictures would also change each other's captions.
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


def _load(path: Path, options: ort.SessionOptions, providers: list[str], form: Form) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # as in `run`
        raise BundleError(
            f"{path} cannot be loaded ({one_line(error)}): check the model with `captionist model verify`"
        ) from error
    if session.get_providers()[0] != providers[0]:  # ONNX Runtime would fall back to the CPU
        raise BundleError(f"{providers[0]} does not start on this machine: see its messages, or run without it")
    form.check(path, session)
    return session
