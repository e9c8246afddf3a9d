"""What makes captions: Captionist, and transformers in torch as a user would write it."""

import contextlib
import logging
import multiprocessing
import time
from collections.abc import Sequence
from enum import Enum, auto
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel, ViTConfig, ViTModel

from benchmarks._restore import as_transformers, restore
from captionist import Captioner
from captionist.bundle import DETECTOR
from captionist.exporting.export import write_unscored
from captionist.inference.detector import Detector
from captionist.inference.encoding import Prepared
from captionist.inference.threads import available_cores
from captionist.model.config import DecoderConfig, ModelConfig, VitConfig
from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import GPT2, Language, load_tokenizer
from captionist.model.vision import VitEncoder
from captionist.training.recipe import load_recipe

STEPS = 11
"""Tokens that models with random weights write: about as many as in the embedded model's captions."""

_VIT_B = ViTConfig()
_GPT2_SMALL = GPT2Config()


class Search(Enum):
    """How captions are searched for: greedily, or by each contestant's default; those without one take five beams."""

    GREEDY = "greedy"
    DEFAULT = "default"

    @property
    def beams(self) -> int:
        """The beams of a contestant without a default of its own."""
        return 1 if self is Search.GREEDY else 5


class Kind(Enum):
    """Which contestant a worker is."""

    OURS = auto()
    TRANSFORMERS = auto()
    COMPILED = auto()
    OURS_BASE = auto()
    TRANSFORMERS_BASE = auto()


class Worker:
    """A contestant in its own process, which ends with this one."""

    def __init__(self, kind: Kind, model: Path | None = None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(theirs, kind, model), daemon=True)
        self._process.start()

    def seconds(self, pictures: Sequence[bytes], search: Search) -> float:
        """How long it takes to caption these pictures."""
        self._pipe.send((list(pictures), search))
        seconds: float = self._pipe.recv()
        return seconds


def _work(pipe: Connection, kind: Kind, model: Path | None) -> None:
    torch.set_num_threads(available_cores())
    contestant = _contestant(kind, model)
    with contextlib.suppress(EOFError):  # the process that asked has ended
        while True:
            pictures, search = pipe.recv()
            begun = time.perf_counter()
            contestant.caption(pictures, search)
            pipe.send(time.perf_counter() - begun)


def _contestant(kind: Kind, model: Path | None) -> "Contestant":
    if kind is Kind.OURS:
        return Ours(model)
    if kind is Kind.OURS_BASE:
        return Ours(model, steps=STEPS)
    captioner = Captioner(model)
    if kind is Kind.TRANSFORMERS_BASE:
        return VisionEncoderDecoder(captioner)
    return Transformers(captioner, compiled=kind is Kind.COMPILED)


class Contestant(Protocol):
    """Turns the bytes of pictures into sentences."""

    def caption(self, pictures: Sequence[bytes], search: Search) -> list[str]: ...


class Ours:
    """Captionist's engine; `steps` fixes the length, and five beams, for models with random weights."""

    def __init__(self, model: Path | None, steps: int | None = None) -> None:
        self.captioner = Captioner(model)
        self._fixed = {} if steps is None else {"min_tokens": steps, "max_tokens": steps}

    def caption(self, pictures: Sequence[bytes], search: Search) -> list[str]:
        if search is Search.GREEDY:
            return self.run(pictures, num_beams=1, retrieved=0)
        return self.run(pictures, **({"num_beams": search.beams} if self._fixed else {}))

    def run(self, pictures: Sequence[bytes], **changes: int) -> list[str]:
        """Caption with some options of the search changed."""
        options = self._fixed | changes
        if len(pictures) == 1:
            return [self.captioner.caption(pictures[0], **options).text]  # type: ignore[arg-type]
        results = self.captioner.caption_many(pictures, **options)  # type: ignore[arg-type]
        return [result.caption.text for result in results if result.caption]


class Transformers:
    """The bundle's own weights in float32: the encoder in eager torch, the decoder as GPT2LMHeadModel.generate.

    The detector is the bundle's, since there are no torch weights for it: it costs both sides the same.
    """

    def __init__(self, captioner: Captioner, compiled: bool = False) -> None:
        self._captioner = captioner
        model = restore(captioner.bundle)
        self._encode, self._decoder = model.encode, as_transformers(model)
        self._detector: Detector | None = None
        if captioner.bundle.config.detector:
            self._detector = Detector(ort.InferenceSession(captioner.bundle.path / DETECTOR))
        if compiled:
            self._encode = torch.compile(self._encode)
            self._decoder.forward = torch.compile(self._decoder.forward, dynamic=True)

    @torch.inference_mode()
    def caption(self, pictures: Sequence[bytes], search: Search) -> list[str]:
        prepared = [self._captioner.prepare(picture) for picture in pictures]
        tokens = self._encode(_pixels(prepared), objects=self._objects(prepared))
        prefix = tokens[..., : self._decoder.config.n_embd]  # the rest is for the image head
        begin = torch.full((len(prefix), 1), self._captioner.bundle.config.decoder.bos_id)
        embeddings = torch.cat((prefix, self._decoder.transformer.wte(begin)), 1)
        written = self._decoder.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
            num_beams=search.beams,
            do_sample=False,
            max_new_tokens=40,
            length_penalty=self._captioner.defaults.length_penalty,
        )
        end = self._captioner.bundle.config.decoder.eos_id
        return [self._captioner.tokenizer.decode([t for t in row if t != end]) for row in written.tolist()]

    def _objects(self, prepared: Sequence[Prepared]) -> Tensor | None:
        if self._detector is None:
            return None
        scenes = [each.scene for each in prepared if each.scene is not None]
        return torch.from_numpy(np.stack([self._detector(scene) for scene in scenes]))


class VisionEncoderDecoder:
    """ViT-B/16 and GPT-2 small in transformers' class for them, with random weights: only its cost means anything."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        decoder = GPT2Config(add_cross_attention=True, is_decoder=True)
        self._model = VisionEncoderDecoderModel(encoder=ViTModel(_VIT_B), decoder=GPT2LMHeadModel(decoder)).eval()

    @torch.inference_mode()
    def caption(self, pictures: Sequence[bytes], search: Search) -> list[str]:
        prepared = [self._captioner.prepare(picture) for picture in pictures]
        pixels = torch.nn.functional.interpolate(_pixels(prepared), (224, 224))
        written = self._model.generate(
            pixels,
            num_beams=search.beams,
            do_sample=False,
            min_new_tokens=STEPS,
            max_new_tokens=STEPS,
            decoder_start_token_id=_GPT2_SMALL.bos_token_id,
            pad_token_id=_GPT2_SMALL.eos_token_id,
        )
        return [str(row) for row in written.tolist()]


def base_model(tokenizer: str) -> VisionPrefixLM:
    """ViT-B/16 and GPT-2 small as our model, with random weights. tokenizer: a directory with GPT-2's."""
    torch.manual_seed(0)
    vision = VitConfig(weights="", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    config = ModelConfig(encoder=vision, decoder=DecoderConfig(weights=tokenizer), prefix_grid=7)
    language = Language(GPT2(_GPT2_SMALL, 0.0), load_tokenizer(tokenizer))
    return VisionPrefixLM(config, VitEncoder(vision, ViTModel(_VIT_B)), language).eval()


def _pixels(prepared: Sequence[Prepared]) -> Tensor:
    return torch.from_numpy(np.stack([each.pixels for each in prepared]))


def write_base_bundle(directory: Path, tokenizer: str) -> None:
    """`base_model` as a bundle in int8, as a user would export it for speed."""
    model, recipe = base_model(tokenizer), load_recipe(Path("recipes/flickr8k-base.yaml"))
    directory.mkdir(parents=True)
    logging.disable(logging.INFO)  # the exporter logs every step
    write_unscored(model, recipe, directory, "base", "int8")
