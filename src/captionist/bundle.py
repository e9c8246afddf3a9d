"""A model on disk: a directory with graphs, tokenizer, settings, model card, scores and checksums."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from captionist import paths
from captionist.errors import BundleError
from captionist.faults import find_faults
from captionist.options import MOST_RETRIEVED, SearchOptions

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
DETECTOR, ENCODER, PREFILL, STEP = "detector.onnx", "encoder.onnx", "prefill.onnx", "step.onnx"
IMAGE_HEAD, SENTENCE_HEAD = "image_head.onnx", "sentence_head.onnx"
BANK_SENTENCES, BANK_VECTORS, RANKER = "sentences.txt", "sentences.npz", "ranker.npz"
MODEL_CARD, SCORES, CHECKSUMS = "MODEL_CARD.md", "scores.json", "checksums.json"
TRAINING_HEADING = "## Training"  # of the last part of a model card
_REQUIRED = (CONFIG, TOKENIZER, ENCODER, PREFILL, STEP, MODEL_CARD, SCORES, CHECKSUMS)

_EMBEDDED = Path(__file__).with_name("bundles")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_Mean = Annotated[float, Field(ge=-1000, le=1000)]
_Std = Annotated[float, Field(ge=0.001, le=1000)]


_Side = Annotated[int, Field(gt=0, le=4096)]


class ImageConfig(_Strict):
    """The pixels that the encoder expects: RGB scaled to 0..1, then (value - mean) / std by channel.

    resampling: how pictures are resized; "area" is ours, the others are Pillow's. resized: the size before cropping, as
    (height, width) or the length of the shorter side; height x width are then cropped from the middle. None: pictures
    are squeezed to height x width, and nothing is cropped.
    """

    height: _Side
    width: _Side
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    resampling: Literal["area", "nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "area"
    resized: _Side | tuple[_Side, _Side] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        height, width = (self.resized,) * 2 if isinstance(self.resized, int) else self.resized or (4096, 4096)
        if self.resized and self.resampling == "area":
            raise ValueError("resized needs one of Pillow's resampling filters")
        if height < self.height or width < self.width:
            raise ValueError(f"of pictures resized to {self.resized}, {self.height} x {self.width} cannot be cut out")
        return self


class DecoderConfig(_Strict):
    """The language model.

    bos_id, eos_id: ids in the graphs. max_tokens: how many caption tokens fit. width: how many numbers of each visual
    token it reads.
    """

    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    head_width: int = Field(gt=0)
    width: int = Field(gt=0)
    bos_id: int = Field(ge=0)
    eos_id: int = Field(ge=0)
    max_tokens: int = Field(gt=0)


class DetectorConfig(_Strict):
    """What is found in a picture before the encoder reads it.

    classes: the K classes of detector.onnx, in the order of its scores. words: how many of the most certain classes get
    a token each after the grid's, most certain first. nouns: how many nouns, which the encoder itself finds in the
    whole picture, get tokens after those.
    """

    classes: tuple[str, ...] = Field(min_length=1)
    words: int = Field(default=8, ge=0)
    nouns: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.words > len(self.classes):
            raise ValueError(f"words={self.words} of {len(self.classes)} classes cannot be chosen")
        return self


class AlignmentConfig(_Strict):
    """The space in which pictures and sentences are compared, `width` wide.

    scale: what cosines are multiplied by to give logits, among sentences or among pictures. features: how many numbers
    of each visual token, after those that GPT-2 reads, are for the image head; 0: it reads the same numbers as GPT-2.
    """

    width: int = Field(gt=0)
    scale: float = Field(gt=0, le=1000)
    features: int = Field(default=0, ge=0)


class BankConfig(_Strict):
    """Sentences about other pictures, which compete with those written for a picture; see `inference.bank`.

    nearest: how many of them are considered for each picture: those with the highest cosine * (their cosine to the
    picture) + support * (how well the classes that they name match those seen). Of these, the ones compete that have
    the highest sum of that and agreement * (how far they say what the others say). ranked: whether the model has learnt
    to choose among its own captions and these, and has ranker.npz.
    """

    nearest: int = Field(default=50, ge=1, le=MOST_RETRIEVED)
    cosine: float = Field(default=8.0, ge=0, le=1000)
    support: float = Field(default=2.0, ge=0, le=1000)
    agreement: float = Field(default=60.0, ge=0, le=1000)
    ranked: bool = False


class Calibration(_Strict):
    """How `Caption.confidence` is computed from what is known about a caption; see `evaluation.calibration`.

    It is the logistic function of intercept + slope * (mean log probability of the caption's tokens) + the sum of
    weights * (the evidence of the same name, where captions are ranked; see `inference.choice`). accepted_cider: the
    CIDEr-D times 100 from which a caption counted as acceptable.
    """

    intercept: float
    slope: float
    accepted_cider: float
    weights: dict[str, float] = {}

    def confidence(self, token_log_probability: float, evidence: Mapping[str, float] | None = None) -> float:
        """The confidence, 0 to 1, in a caption: its tokens' mean log probability, and the evidence for it.

        Evidence that the weights ask for and that is missing counts as 0.
        """
        logit = self.intercept + self.slope * token_log_probability
        logit += sum(weight * (evidence or {}).get(name, 0.0) for name, weight in self.weights.items())
        # As a hyperbolic tangent, the logistic function cannot overflow.
        return (1 + math.tanh(logit / 2)) / 2


class SourceConfig(_Strict):
    """Where a model that others trained came from.

    name: on the Hugging Face hub, or the directory's. revision: the hub's commit. licence: as stated on its card.
    weights: the SHA-256 sum of each file of weights.
    """

    name: str = Field(min_length=1)
    architecture: str = Field(min_length=1)
    revision: str | None = None
    licence: str | None = None
    weights: dict[str, str]


class BundleConfig(_Strict):
    """config.json.

    grid: rows and columns of the visual tokens, row by row. leading: how many tokens come before the grid's and have no
        place in the picture, such as a ViT's class token. prefix_length: how many tokens come before the caption:
        these, the grid's, and the detector's words and nouns if there is a detector.
    vocabulary_size: V, the width of the logits and the number of tokens in tokenizer.json.
    search: the options that the model's scores were measured with.
    lowercase: whether the model was trained on lower-cased captions.
    detector: None if the model has none; otherwise the bundle has detector.onnx, too.
    alignment: None if the model was not trained to compare pictures with sentences; otherwise the bundle has
        image_head.onnx and sentence_head.onnx, too.
    bank: None if the model has no sentences to choose from; otherwise the bundle has sentences.txt and sentences.npz,
        too.
    calibration: None if there were too few pictures for one.
    source: None if the model was trained here.
    """

    format_version: Literal[1] = 1
    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    precision: Literal["fp32", "fp16", "int8"]
    image: ImageConfig
    grid: tuple[int, int]
    leading: int = Field(default=0, ge=0)
    prefix_length: int = Field(gt=0)
    decoder: DecoderConfig
    vocabulary_size: int = Field(gt=0)
    search: SearchOptions = SearchOptions()
    lowercase: bool
    detector: DetectorConfig | None = None
    alignment: AlignmentConfig | None = None
    bank: BankConfig | None = None
    calibration: Calibration | None = None
    source: SourceConfig | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        rows, columns = self.grid
        seen = self.detector.words + self.detector.nouns if self.detector else 0
        if min(self.grid) < 1 or self.leading + rows * columns + seen != self.prefix_length:
            raise ValueError(
                f"{self.leading} leading tokens, a grid of {rows} x {columns} and {seen} tokens of a detector are not "
                f"prefix_length={self.prefix_length} tokens"
            )
        if max(self.decoder.bos_id, self.decoder.eos_id) >= self.vocabulary_size:
            raise ValueError(f"bos_id and eos_id must be below vocabulary_size={self.vocabulary_size}")
        if self.search.match_weight and self.alignment is None:
            raise ValueError("search.match_weight needs an alignment")
        if self.bank is not None and self.alignment is None:
            raise ValueError("a bank needs an alignment")
        if self.search.retrieved and not (self.bank and self.bank.ranked):
            raise ValueError("search.retrieved needs a bank that is ranked")
        return self


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    path: Path
    config: BundleConfig

    @classmethod
    def open(cls, model: str | Path | None = None) -> "Bundle":
        """Open the bundle at a path, or the embedded one of that name; None is the embedded model.

        Checks that the files exist and the configuration is sound; `verify` reads every byte.
        Raises BundleError.
        """
        path = embedded() if model is None else _locate(model)
        _require_files(path, _REQUIRED)
        config = _read_config(path / CONFIG)
        if config.detector is not None:
            _require_files(path, (DETECTOR,))
        if config.alignment is not None:
            _require_files(path, (IMAGE_HEAD, SENTENCE_HEAD))
        if config.bank is not None:
            _require_files(path, (BANK_SENTENCES, BANK_VECTORS, *((RANKER,) if config.bank.ranked else ())))
        return cls(path, config)

    @property
    def size(self) -> int:
        """The size of all its files, in bytes."""
        return sum(file.stat().st_size for file in _files(self.path))

    @cached_property
    def scores(self) -> dict[str, Any]:
        """scores.json: what the model reached, and on what. Raises BundleError if it is not a JSON object."""
        scores = _read_json(self.path / SCORES)
        if not isinstance(scores, dict):
            raise BundleError(f"{self.path / SCORES} should hold a JSON object")
        return scores

    @property
    def model_card(self) -> str:
        """MODEL_CARD.md, Markdown. Raises BundleError if it cannot be read."""
        path = self.path / MODEL_CARD
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read ({error}): export the model again") from error

    @property
    def fingerprint(self) -> str:
        """What identifies this model: the SHA-256 sum of checksums.json. Raises BundleError."""
        path = self.path / CHECKSUMS
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error}): export the model again") from error

    def verify(self) -> int:
        """Compare every file with its checksum; returns how many there are.

        Raises BundleError naming every file that was altered, is missing or was never listed.
        """
        expected = _read_json(self.path / CHECKSUMS)
        if not isinstance(expected, dict):
            raise BundleError(f"{self.path / CHECKSUMS} should hold a JSON object of file names and SHA-256 sums")
        actual = _checksums(self.path)
        faults = [f"{name} is missing" for name in sorted(expected.keys() - actual.keys())]
        faults += [f"{name} is not listed" for name in sorted(actual.keys() - expected.keys())]
        faults += [
            f"{name} was altered" for name in sorted(actual.keys() & expected.keys()) if actual[name] != expected[name]
        ]
        if faults:
            raise BundleError(
                f"{self.path} is damaged: {'; '.join(faults)}. Reinstall captionist, or export the model again"
            )
        return len(actual)


def write_config(directory: Path, config: BundleConfig) -> None:
    """Write config.json."""
    (directory / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def write_checksums(directory: Path) -> None:
    """Write checksums.json over all files of a bundle: the last step of making one."""
    (directory / CHECKSUMS).write_text(json.dumps(_checksums(directory), indent=2) + "\n", encoding="utf-8")


def list_bundles(root: Path = _EMBEDDED) -> list[Bundle]:
    """The bundles inside the package, by name. Raises BundleError if one cannot be opened."""
    return [Bundle.open(path) for path in _bundle_paths(root)]


def embedded(root: Path = _EMBEDDED) -> Path:
    """The one model inside the package. Raises BundleError if there is none, or several to choose from."""
    paths = _bundle_paths(root)
    if not paths:
        raise BundleError(
            "this installation has no model: pass --model BUNDLE (or Captioner(model=...)), reinstall captionist, "
            "or train and export a model"
        )
    if len(paths) > 1:
        raise BundleError(f"choose a model with --model: {', '.join(path.name for path in paths)}")
    return paths[0]


def _bundle_paths(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"*/{CONFIG}"))


def _locate(model: str | Path) -> Path:
    path = Path(os.path.expanduser(model))  # noqa: PTH111  # where there is no such user, Path's own raises an error
    if paths.isdir(path):
        return path
    names = [bundle.name for bundle in _bundle_paths(_EMBEDDED)]
    if str(model) in names:
        return _EMBEDDED / model
    if reason := paths.obstacle(path):
        raise BundleError(f"{path} cannot be opened ({reason}): check the path and its permissions")
    if paths.exists(path):
        raise BundleError(f"{path} is a file, but a bundle is a directory: pass the directory that holds {CONFIG}")
    known = f"the models inside the package are {', '.join(names)}" if names else "the package holds no model"
    raise BundleError(f"there is no bundle {str(model)!r}: pass its directory ({known})")


def _require_files(path: Path, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not paths.isfile(path / name)]
    if missing and (reason := paths.obstacle(path / missing[0])):
        raise BundleError(f"{path / missing[0]} cannot be opened ({reason}): check the permissions of {path}")
    if missing:
        raise BundleError(
            f"{path} is not a complete bundle: it lacks {', '.join(missing)}; "
            "make one with `captionist export RUN BUNDLE`"
        )


def _read_config(path: Path) -> BundleConfig:
    values = _read_json(path)
    version = values.get("format_version") if isinstance(values, dict) else None
    if type(version) is not int or version != 1:  # true equals 1 too
        raise BundleError(
            f"{path} has format version {version!r}, but this captionist reads version 1: "
            "upgrade captionist, or export the model again"
        )
    try:
        return BundleConfig.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        faults = "; ".join(map(str, find_faults(error, BundleConfig.model_fields)))
        raise BundleError(f"{path} is not valid ({faults}): export the model again") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read ({error}): export the model again") from error


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if paths.isfile(path))


def _checksums(directory: Path) -> dict[str, str]:
    sums = {}
    for file in _files(directory):
        name = file.relative_to(directory).as_posix()
        if name != CHECKSUMS:
            try:
                with file.open("rb") as stream:
                    sums[name] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise BundleError(f"{file} cannot be read ({error.strerror}): check its permissions") from error
    return sums
