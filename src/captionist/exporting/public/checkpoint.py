"""A checkpoint in the layout of the Hugging Face hub: what its files say, and its model."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import metadata_load, snapshot_download
from PIL import Image
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    GenerationConfig,
    GitForCausalLM,
    VisionEncoderDecoderModel,
)

from captionist import paths
from captionist.bundle import ImageConfig, SourceConfig
from captionist.errors import BundleError
from captionist.exporting.public import blip, encoder_decoder, git
from captionist.exporting.public.family import Model
from captionist.inference.sessions import one_line
from captionist.options import MOST_BEAMS, MOST_TOKENS, SearchOptions

_FAMILIES: dict[str, tuple[Any, Callable[[Any], Model]]] = {
    "git": (GitForCausalLM, git.take_apart),
    "blip": (BlipForConditionalGeneration, blip.take_apart),
    "vision-encoder-decoder": (VisionEncoderDecoderModel, encoder_decoder.take_apart),
}
_KNOWN = "GIT (GitForCausalLM), BLIP (BlipForConditionalGeneration) and VisionEncoderDecoderModel"
_FILES = ["*.json", "*.txt", "README.md"]
_SAFE, _PICKLED = "*.safetensors", "pytorch_model*.bin"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
_UNUSED = "pooler"  # of a ViT; many checkpoints lack it, and captions do not need it


@dataclass(frozen=True)
class Checkpoint:
    """A directory with a model of one of the families. model: that model, taken apart."""

    directory: Path
    source: SourceConfig
    model: Model
    search: SearchOptions
    image: ImageConfig
    tokenizer: Tokenizer


def open_checkpoint(source: str) -> Checkpoint:
    """source: a directory, or a name on the hub, which is then fetched. Nothing of it is executed.

    Raises BundleError if it cannot be had, is damaged, or is of a family that is not known.
    """
    directory, revision = _fetch(source)
    with _refusing(source):
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    architecture = (config.architectures or ["?"])[0]
    kind, take_apart = _FAMILIES.get(config.model_type, (None, None))
    if kind is None or take_apart is None or architecture != kind.__name__:
        raise BundleError(
            f"{source} is a model of the architecture {architecture} ({config.model_type}); those that can be imported "
            f"are {_KNOWN}: choose one of these"
        )
    weights = sorted(directory.glob(_SAFE)) or sorted(directory.glob(_PICKLED))
    if not weights:
        raise BundleError(f"{directory} has no weights ({_SAFE} or {_PICKLED}): fetch the whole checkpoint")
    with _refusing(source):
        model, found = kind.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            trust_remote_code=False,
            weights_only=True,
        )
        missing = sorted(name for name in found["missing_keys"] if _UNUSED not in name)
        if missing or found["mismatched_keys"]:
            raise ValueError(f"its weights lack {len(missing)} that it needs: {', '.join(missing[:3])}")
        family = take_apart(model.eval())
        return Checkpoint(
            directory,
            SourceConfig(
                name=source if revision else directory.resolve().name,
                architecture=architecture,
                revision=revision,
                licence=_licence(directory / "README.md"),
                weights={file.name: _sum(file) for file in weights},
            ),
            family,
            _search(model.generation_config),
            _image(directory, family.image),
            _tokenizer(directory),
        )


def _fetch(source: str) -> tuple[Path, str | None]:
    """The checkpoint's directory, and its commit if it was fetched."""
    if paths.isdir(Path(source)):
        return Path(source), None
    try:
        found = Path(snapshot_download(source, allow_patterns=[*_FILES, _SAFE]))
        if not any(found.glob(_SAFE)):
            found = Path(snapshot_download(source, revision=found.name, allow_patterns=[*_FILES, _PICKLED]))
    except Exception as error:  # from several libraries: wrong name, no network, no such repository
        raise BundleError(
            f"{source} is not a directory, and cannot be fetched from the Hugging Face hub ({_short(error)}): check "
            "the name and the network, or pass a directory with the checkpoint's files"
        ) from error
    return found, found.name


@contextmanager
def _refusing(source: str) -> Iterator[None]:
    """Turn whatever reading a checkpoint raises into BundleError, and silence transformers' warnings about it."""
    before, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    except BundleError:
        raise
    except Exception as error:  # each library raises its own
        raise BundleError(
            f"{source} cannot be imported ({_short(error)}): fetch its files again, or choose another checkpoint"
        ) from error
    finally:
        transformers.logging.set_verbosity(before)
        if bars:
            transformers.logging.enable_progress_bar()


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)[:300]}"


def _search(generation: GenerationConfig) -> SearchOptions:
    """The search that the checkpoint's files describe; our defaults for what they leave open."""
    ours = SearchOptions()
    most, least = generation.max_new_tokens, generation.min_new_tokens
    if most is None and generation.max_length is not None:
        most = generation.max_length - 1  # theirs counts the begin token
    if least is None and generation.min_length is not None:
        least = max(generation.min_length - 1, 0)
    if generation.max_length is not None and (most is None or most < 1):
        raise ValueError(
            f"its captions end after {generation.max_length} tokens, the first of which is the start token"
        )
    said = {
        "num_beams": generation.num_beams,
        "max_tokens": None if most is None else min(most, MOST_TOKENS),
        "min_tokens": least,
        "length_penalty": None if generation.length_penalty is None else float(generation.length_penalty),
        "no_repeat_ngram": generation.no_repeat_ngram_size,
        "repetition_penalty": None if generation.repetition_penalty is None else float(generation.repetition_penalty),
    }
    if (said["num_beams"] or 1) > MOST_BEAMS:
        raise ValueError(f"its search has {said['num_beams']:,} beams")
    return ours.override(**{name: value for name, value in said.items() if value is not None})


def _image(directory: Path, needed: tuple[int, int]) -> ImageConfig:
    """What the checkpoint's image processor does. needed: (height, width) that the encoder reads."""
    does = AutoImageProcessor.from_pretrained(directory, trust_remote_code=False).to_dict()
    if not does.get("do_resize") or not does.get("do_rescale") or not 254.9 < 1 / does["rescale_factor"] < 255.1:
        raise ValueError("its image processor does not resize pictures, or does not rescale pixels")
    size = dict(does["size"])
    resized: int | tuple[int, int]
    if set(size) == {"shortest_edge"}:
        resized = size["shortest_edge"]
    elif set(size) == {"height", "width"}:
        resized = (size["height"], size["width"])
    else:
        raise ValueError(f"its image processor resizes pictures to {size}")
    cut = does["crop_size"] if does.get("do_center_crop") else None
    final = (cut["height"], cut["width"]) if cut else resized
    if final != needed:
        raise ValueError(f"its image processor makes pictures of {final}, but its encoder reads {needed}")
    normal = does.get("do_normalize")
    return ImageConfig(
        height=needed[0],
        width=needed[1],
        mean=tuple(does["image_mean"]) if normal else (0.0, 0.0, 0.0),
        std=tuple(does["image_std"]) if normal else (1.0, 1.0, 1.0),
        resampling=Image.Resampling(int(does["resample"])).name.lower(),
        resized=None if resized == needed else resized,
    )


def _tokenizer(directory: Path) -> Tokenizer:
    if not any(paths.isfile(directory / name) for name in _VOCABULARIES):  # transformers would make an empty one
        raise ValueError(f"it has no tokenizer ({', '.join(_VOCABULARIES)})")
    tokenizer = AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Tokenizer.from_str(tokenizer.to_str())


def _licence(card: Path) -> str | None:
    """The licence stated at the head of the checkpoint's card."""
    found = (metadata_load(card) or {}).get("license") if paths.isfile(card) else None
    return found if isinstance(found, str) else None


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
