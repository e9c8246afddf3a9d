"""`captionist export`: the best model of a run becomes a bundle that needs no torch.

The graphs are compared with the model before the bundle gets its name, and the bundle is scored as users will run it.
"""

import csv
import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from captionist import bundle as bundles
from captionist import paths
from captionist.bundle import Bundle, BundleConfig
from captionist.captioner import Captioner
from captionist.data import Example, clean_references, open_corpus, open_with
from captionist.errors import BundleError, DataError, ImageError
from captionist.evaluation.calibrated import calibrate_rows
from captionist.evaluation.evaluate import Evaluation, evaluate
from captionist.evaluation.report import ReportRow
from captionist.exporting.bank import add_bank, usable_sentences
from captionist.exporting.card import Training, model_card
from captionist.exporting.graphs import Precision, round_to_half, write_graphs
from captionist.exporting.ranking_fit import add_ranker
from captionist.images import decode, prepare, scene_shape, squeeze
from captionist.inference.encoding import Prepared
from captionist.inference.engine import Engine
from captionist.inference.search import SearchOptions, search
from captionist.model.detector import CLASSES
from captionist.model.fusion import VisionPrefixLM, load_model
from captionist.model.language import encode_caption
from captionist.model.torch_decoder import TorchDecoder
from captionist.training.dataset import Corpora
from captionist.training.recipe import Recipe, load_recipe
from captionist.training.stage import ROOT, TEXT

_logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3
_PARITY_PICTURES = 100
_CALIBRATION_PICTURES = 128
_RARE = 1e-5  # as a share of all tokens of the train captions
_FAILED = 5.0  # CIDEr-D
_SHOWN_FAILURES = 10
_VERSION = "1"


@dataclass(frozen=True)
class Parity:
    """The bundle against the torch model on the first pictures of dev.

    log_probs: the largest difference between log-probabilities of first words. captions: how many greedy ones agree.
    """

    pictures: int
    captions: int
    log_probs: float


def export(run: Path, bundle: Path, precision: Precision = "fp16") -> Bundle:
    """Write the best model of a run as a bundle.

    Raises BundleError if the bundle exists or the graphs do not agree with the model, TrainingError if the run
    holds no model, RecipeError if it has no recipe, DataError if int8 finds no train pictures.
    """
    if precision not in get_args(Precision):
        raise BundleError(f"{precision!r} is not a precision: choose one of {', '.join(get_args(Precision))}.")
    if paths.exists(bundle):
        raise BundleError(f"{bundle} exists already: choose another name, or delete it first.")
    recipe = load_recipe(run / "recipe.yaml")
    model = load_model(run / "best")
    partial = bundle.with_name(f".{bundle.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(model, recipe, run, partial, bundle.name, precision)
        partial.rename(bundle)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Bundle.open(bundle)


def _write(model: VisionPrefixLM, recipe: Recipe, run: Path, directory: Path, name: str, precision: Precision) -> None:
    model = model.cpu().float().eval()
    if precision != "fp32":
        round_to_half(model)  # so that it is compared with the very weights that the bundle holds
    pictures: Sequence[Prepared] = ()
    if precision == "int8":
        train = _train_examples(recipe)
        model.cut_vocabulary(_common_captions(model, recipe, train))
        chosen = train[:: -(-len(train) // _CALIBRATION_PICTURES)]  # spread over all of them
        pictures = _prepared(model, chosen)
        if not pictures:
            raise DataError(f"{recipe.data.root}: none of the {len(chosen):,} train pictures can be read.")
    write_unscored(model, recipe, directory, name, precision, pictures)

    scores: dict[str, Any] = {"split": "dev", "corpus": recipe.data.root.name}
    corpora: dict[str, tuple[Example, ...]] = {}
    try:
        corpora = _dev_examples(recipe)
    except DataError as error:
        scores["note"] = f"Not scored when it was exported: {error}"
    if recipe.bank is not None:
        sentences = Corpora(recipe.data, recipe.validation.corpora).text(recipe.bank.source)
        add_bank(directory, usable_sentences(sentences), recipe.bank.credit)
    if corpora:
        scores |= _score(model, recipe, directory, precision, corpora)
    (directory / bundles.SCORES).write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    card = model_card(recipe, model, scores, precision, _history(run), _best_epoch(run / "epochs.csv"))
    (directory / bundles.MODEL_CARD).write_text(card, encoding="utf-8")
    bundles.write_checksums(directory)


def _score(
    model: VisionPrefixLM,
    recipe: Recipe,
    directory: Path,
    precision: Precision,
    corpora: Mapping[str, tuple[Example, ...]],
) -> dict[str, Any]:
    """A bundle's scores on its dev corpora, for scores.json, the first corpus first; before, it learns to choose."""
    (first, dev), *others = corpora.items()
    parity = compare(model, directory, dev[:_PARITY_PICTURES])
    _logger.info("against torch: %s", parity)
    if precision != "int8" and (parity.log_probs > _TOLERANCE or parity.captions < 0.99 * parity.pictures):
        raise BundleError(f"The graphs do not agree with the model ({parity}): this is a fault of the export.")
    ranking = add_ranker(directory, corpora, retrieved=recipe.search.retrieved) if recipe.bank else {}
    evaluation = evaluate(dev, Captioner(directory))
    calibrated = {} if recipe.bank else calibrate_bundle(directory, evaluation.rows)
    return {
        "corpus": first,
        "parity": asdict(parity),
        **_scores_of(evaluation),
        **ranking,
        **calibrated,
        "others": {name: _scores_of(evaluate(examples, Captioner(directory))) for name, examples in others},
    }


def _scores_of(evaluation: Evaluation) -> dict[str, Any]:
    return {
        **evaluation.scores.model_dump(),
        "recall": evaluation.recall and asdict(evaluation.recall),
        "mistakes": asdict(evaluation.mistakes),
        "failures": _failures(evaluation.rows),
        "reliability": evaluation.reliability and asdict(evaluation.reliability),
    }


def write_unscored(
    model: VisionPrefixLM,
    recipe: Recipe,
    directory: Path,
    name: str,
    precision: Precision,
    pictures: Sequence[Prepared] = (),
) -> None:
    """Write a bundle with no scores and an empty card; pictures as in `write_graphs`."""
    write_graphs(model, directory, precision, pictures)
    model.tokenizer.save(str(directory / bundles.TOKENIZER))
    bundles.write_config(directory, bundle_config(model, recipe, name, precision))
    (directory / bundles.SCORES).write_text("{}", encoding="utf-8")
    (directory / bundles.MODEL_CARD).write_text("", encoding="utf-8")
    bundles.write_checksums(directory)


def calibrate_bundle(directory: Path, rows: Sequence[ReportRow]) -> dict[str, Any]:
    """Calibrate the confidence of an uncalibrated bundle on half of the pictures that it has captioned.

    Returns the entry for scores.json: how well that worked on the other half. The checksums are left to the caller.
    """
    found = calibrate_rows(rows)
    if found is None:
        return {}
    calibration, told = found
    bundles.write_config(directory, Bundle.open(directory).config.model_copy(update={"calibration": calibration}))
    return {"reliability": asdict(told)} if told else {}


def _failures(rows: Sequence[ReportRow]) -> list[dict[str, str]]:
    """The captions that the model is surest of among those that say next to nothing of what people say."""
    wrong = [row for row in rows if row.cider < _FAILED]
    surest = sorted(wrong, key=lambda row: (-row.confidence, row.id))[:_SHOWN_FAILURES]
    return [{"picture": row.id, "caption": row.candidate, "reference": row.references[0]} for row in surest]


def _history(run: Path) -> list[Training]:
    """The run, and before it those that it started from, as far as they still exist; each once."""
    found: dict[Path, Training] = {}

    def visit(directory: Path) -> None:
        if directory not in found and paths.isfile(directory / "recipe.yaml"):
            recipe = load_recipe(directory / "recipe.yaml")
            environment = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
            for start in recipe.start:
                if str(start) not in environment.get("bundles", {}):  # bundles have told their own history
                    visit(start.parent)
            found[directory] = Training(directory.name, recipe, environment)

    visit(run)
    return list(found.values())


def _best_epoch(log: Path) -> str:
    if not paths.exists(log):
        return ""
    with log.open(encoding="utf-8", newline="") as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["cider"]))
    return f"epoch {best['epoch']} of {best['stage']}" if int(best["epoch"]) else ""


def _prepared(model: VisionPrefixLM, examples: Sequence[Example]) -> list[Prepared]:
    """Pictures prepared for the model; unreadable ones are left out, as in training."""
    found = []
    for example in examples:
        try:
            found.append(prepare_picture(decode(example.image), model))
        except ImageError as error:
            _logger.warning("left out: %s", error)
    return found


def compare(model: VisionPrefixLM, directory: Path, examples: Sequence[Example]) -> Parity:
    """Run the torch model and a bundle's graphs on the same pictures."""
    pictures = _prepared(model, examples)
    if not pictures:
        raise DataError(f"none of the {len(examples):,} dev pictures can be read.")
    engine, torch_decoder = Engine(Bundle.open(directory)), TorchDecoder(model)
    greedy = SearchOptions(num_beams=1)
    same, largest = 0, 0.0
    for start in range(0, len(pictures), 20):
        batch = pictures[start : start + 20]
        encoding = engine.encode(batch)
        ours, objects = encoding.visual_tokens, encoding.objects
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack([picture.pixels for picture in batch]))
            theirs = model.encode(pixels, objects=None if objects is None else torch.from_numpy(objects))
        difference = torch_decoder.prefill(theirs).log_probs - engine.decoder.prefill(ours).log_probs
        largest = max(largest, float(np.abs(difference).max()))
        pairs = zip(
            search(torch_decoder, theirs, len(batch), greedy),
            search(engine.decoder, ours, len(batch), greedy),
            strict=True,
        )
        same += sum(a[0].tokens == b[0].tokens for a, b in pairs)
    return Parity(len(pictures), same, round(largest, 7))


def prepare_picture(picture: NDArray[np.uint8], model: VisionPrefixLM) -> Prepared:
    """A picture, uint8 [H, W, 3], as the bundle of this model will read it."""
    scene = squeeze(picture, scene_shape(*picture.shape[:2])) if model.words else None
    return Prepared(prepare(picture, model.preprocessing), scene)


def _train_examples(recipe: Recipe) -> tuple[Example, ...]:
    """From all corpora, with those of `data.also` repeated. Raises DataError if one has none or cannot be read."""
    root, others = open_with(recipe.data.root, recipe.data.also, recipe.data.format)
    added = [example for corpus in others for example in corpus.split("train")]
    sources = [open_corpus(each.corpus, each.format) for each in recipe.data.sources.values() if each.corpus]
    more = [example for corpus in sources for example in corpus.split("train")]
    return (*root.split("train"), *added * recipe.data.repeat, *more)


def _common_captions(model: VisionPrefixLM, recipe: Recipe, train: Sequence[Example]) -> list[str]:
    """The train captions and those of sources without pictures, except any with a rare token.

    The output layer is a third of what a step reads, and half of it is for tokens that a model of these captions never
    writes. A lost word can still be spelt from its parts.
    """
    captions = [caption for example in clean_references(train, recipe.data.lowercase) for caption in example.references]
    for name in recipe.text_sources:
        if name != TEXT:  # a run's vocabulary is not built from it, either
            captions += Corpora(recipe.data, recipe.validation.corpora).text(name)
    ids = [encode_caption(model.tokenizer, caption) for caption in captions]
    count = Counter(token for caption in ids for token in caption)
    least = _RARE * count.total()
    return [text for text, tokens in zip(captions, ids, strict=True) if all(count[token] >= least for token in tokens)]


def _dev_examples(recipe: Recipe) -> dict[str, tuple[Example, ...]]:
    """The dev corpora by the names of their directories. Raises DataError."""
    named = {name: each.corpus for name, each in recipe.validation.corpora.items()} or {ROOT: recipe.data.root}
    examples = Corpora(recipe.data.model_copy(update={"limit": None}), recipe.validation.corpora).dev()
    return {named[name].name: some for name, some in examples.items()}


def bundle_config(model: VisionPrefixLM, recipe: Recipe, name: str, precision: Precision) -> BundleConfig:
    """The config.json of a bundle of this model."""
    settings, pixels, alignment = model.decoder.config, model.preprocessing, model.alignment
    height, width = pixels.size
    words = model.config.words
    return BundleConfig(
        name=name,
        version=_VERSION,
        precision=precision,
        image=bundles.ImageConfig(height=height, width=width, mean=pixels.mean, std=pixels.std),
        grid=(model.grid, model.grid),
        prefix_length=model.prefix_length,
        decoder=bundles.DecoderConfig(
            layers=settings.n_layer,
            heads=settings.n_head,
            head_width=settings.n_embd // settings.n_head,
            width=settings.n_embd,
            bos_id=model.end_id,
            eos_id=model.end_id,
            max_tokens=settings.n_positions - model.prefix_length - 1,
        ),
        vocabulary_size=model.tokenizer.get_vocab_size(),
        detector=words and bundles.DetectorConfig(classes=CLASSES, words=words.objects, nouns=words.nouns),
        search=recipe.search.override(retrieved=0),  # until it has learnt to choose
        lowercase=recipe.data.lowercase,
        alignment=alignment
        and bundles.AlignmentConfig(
            width=alignment.words.embedding_dim, scale=alignment.scale().item(), features=model.encoder.feature_width
        ),
    )
