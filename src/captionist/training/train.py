"""`captionist train`: turns a recipe into a run directory."""

import errno
import json
import logging
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

from captionist import paths
from captionist.bundle import TRAINING_HEADING, Bundle
from captionist.data import Example
from captionist.errors import BundleError, RecipeError, TrainingError
from captionist.model.fusion import VisionPrefixLM, build_model, load_model
from captionist.model.language import load_tokenizer
from captionist.model.restore import load_bundle
from captionist.training.annotations import build_annotations
from captionist.training.checkpoint import Progress, latest_checkpoint, read_progress, read_state
from captionist.training.dataset import Corpora, TrainingData, readable
from captionist.training.loop import Trainer
from captionist.training.recipe import Recipe, dump_recipe, load_recipe
from captionist.training.stage import TEXT

_logger = logging.getLogger(__name__)
_ENVIRONMENT = "environment.json"
_PATIENCE = timedelta(hours=12)  # for the other processes, while the first one decodes the pictures
_PACKAGES = ("torch", "transformers", "accelerate", "numpy", "opencv-python-headless", "tokenizers")


def train(recipe: Path, overrides: list[str], resume: Path | None = None, runs: Path = Path("runs")) -> Path:
    """Train a recipe to its end and return the run directory.

    Args: overrides: `key=value` to apply to the recipe; resume: a run that was killed, to continue from its last
    checkpoint with the recipe that it kept (the one given must be the same).

    Raises RecipeError or DataError for what is wrong before training, TrainingError for what goes wrong during it.
    """
    settings = load_recipe(recipe, overrides)
    accelerator = Accelerator(
        mixed_precision="bf16" if _wants_bf16(settings) else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    run = resume or _new_run(settings, runs, accelerator)
    if resume:
        _require_same(settings, resume)
        _note_resumption(resume, accelerator)
    with _log_to(run, accelerator):
        torch.manual_seed(settings.seed)
        checkpoint = latest_checkpoint(run) if resume else None
        annotations = build_annotations(settings)
        corpora = Corpora(settings.data, settings.validation.corpora)
        examples = corpora.train(load_tokenizer(settings.model.decoder.weights))
        texts = {name: corpora.text(name) for name in settings.text_sources}
        limit, side = settings.validation.limit, settings.model.encoder.resolution
        dev = {name: some[:limit] for name, some in corpora.dev().items()}
        seen = {name: some for name, some in examples.items() if name in settings.picture_sources}
        if seen:
            good, dev = readable(seen, dev, side, settings.data)
            examples |= good
        if checkpoint:
            model = load_model(checkpoint)
        elif settings.start:
            model = _load_start(settings)
        else:
            model = build_model(settings.model, _vocabulary(examples, texts))
        _logger.info("%.1f million parameters, %d tokens", _millions(model), model.tokenizer.get_vocab_size())
        data = TrainingData(settings.data, model.tokenizer, examples, dev, side, texts, annotations)
        # What a run starts from is scored first, so that nothing worse is kept as its best.
        progress = read_progress(checkpoint) if checkpoint else Progress(to_validate=bool(settings.start))
        state = read_state(checkpoint) if checkpoint else None
        try:
            Trainer(settings, run, model, data, accelerator, progress, state).train()
        except KeyboardInterrupt:
            raise TrainingError(f"Stopped. Continue with: captionist train {recipe} --resume {run}") from None
    return run


def _vocabulary(examples: dict[str, tuple[Example, ...]], texts: dict[str, list[str]]) -> list[str]:
    """The texts that a model's vocabulary is cut to. `data.text` never counts: its rare words are spelt in pieces."""
    captions = [caption for some in examples.values() for example in some for caption in example.references]
    return captions + [text for name, some in texts.items() if name != TEXT for text in some]


def _load_start(recipe: Recipe) -> VisionPrefixLM:
    """The model to start from: of several, the mean of their weights (a model soup; Wortsman et al. 2022)."""
    model = _load_one(recipe.start[0], recipe)
    mean = model.state_dict()
    for number, start in enumerate(recipe.start[1:], start=2):
        other = _load_one(start, recipe)
        if other.tokenizer.to_str() != model.tokenizer.to_str():
            raise RecipeError(
                f"{start} has another vocabulary than {recipe.start[0]}: their weights cannot be averaged."
            )
        for name, weight in other.state_dict().items():
            mean[name].lerp_(weight, 1 / number)
    return model


def _load_one(start: Path, recipe: Recipe) -> VisionPrefixLM:
    bundle = _bundle(start)
    model = load_bundle(bundle, recipe.model) if bundle else load_model(start, recipe.model.decoder.dropout)
    if model.config.alignment is None and recipe.model.alignment:
        model.align(recipe.model.alignment)
    if model.config != recipe.model:
        theirs, ours = model.config.model_dump(), recipe.model.model_dump()
        names = ", ".join(f"model.{name}" for name in ours if ours[name] != theirs[name])
        raise RecipeError(f"{start} is another model than the recipe describes: it has another {names}.")
    return model


def _bundle(start: Path) -> Bundle | None:
    """The bundle to start from; None if it is a run's model.

    Raises RecipeError if it is neither, BundleError if it is damaged.
    """
    if paths.isfile(start / "model.json"):
        return None
    try:
        bundle = Bundle.open(start)
    except BundleError as error:
        raise RecipeError(f"start: {start} is neither a run's model (RUN/best) nor a bundle: {error}") from error
    bundle.verify()
    return bundle


def _lineage(recipe: Recipe) -> dict[str, dict[str, str]]:
    """What the bundles that a run starts from say about their training; they may have changed by its export."""
    found = {}
    for start in recipe.start:
        if bundle := _bundle(start):
            _, _, training = bundle.model_card.partition(TRAINING_HEADING)
            found[str(start)] = {"fingerprint": bundle.fingerprint, "training": training.strip()}
    return found


def _wants_bf16(recipe: Recipe) -> bool:
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    # A CPU without matrix tiles gains nothing from bf16.
    tiles: bool = torch.cpu._is_amx_tile_supported()
    return tiles


def _millions(model: torch.nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


def _new_run(recipe: Recipe, runs: Path, accelerator: Accelerator) -> Path:
    """Make the directory; all processes agree on its name.

    It gets its name when everything is in it, so that a killed run can be resumed, however early it was killed.
    """
    name = [f"{recipe.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"]
    run = runs / str(broadcast_object_list(name)[0])
    lineage = _lineage(recipe)
    if accelerator.is_main_process:
        environment = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": recipe.seed,
            "commit": _commit(),
            "python": platform.python_version(),
            "machine": platform.platform(),
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
            "precision": accelerator.mixed_precision,
            "bundles": lineage,
            "versions": {package: version(package) for package in _PACKAGES},
        }
        runs.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{run.name}-", dir=runs) as folder:
            partial = Path(folder) / run.name  # with permissions by the umask, unlike `folder`
            partial.mkdir()
            (partial / _ENVIRONMENT).write_text(json.dumps(environment, indent=2), encoding="utf-8")
            (partial / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
            try:
                partial.rename(run)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                raise TrainingError(f"{run} was started in the same second: start this run again.") from None
    accelerator.wait_for_everyone()
    return run


def _note_resumption(run: Path, accelerator: Accelerator) -> None:
    """Add the commit and the number of processes with which the run continues to environment.json."""
    if accelerator.is_main_process:
        path = run / _ENVIRONMENT
        environment = json.loads(path.read_text(encoding="utf-8"))
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "processes": accelerator.num_processes,
        }
        environment["resumed"] = [*environment.get("resumed", []), entry]
        partial = path.with_suffix(".partial")  # the run may be killed at this very moment, too
        partial.write_text(json.dumps(environment, indent=2), encoding="utf-8")
        partial.replace(path)


def _require_same(recipe: Recipe, run: Path) -> None:
    kept = run / "recipe.yaml"
    if not paths.isfile(kept):
        raise RecipeError(f"{run} is not a run: it has no recipe.yaml.")
    if load_recipe(kept) != recipe:
        raise RecipeError(f"The recipe differs from the one that {run} was started with; resume with {kept}.")


def _commit() -> str | None:
    """The commit of the code, marked if the code was changed; None outside a checkout."""
    try:
        here = Path(__file__).parent
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=here, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


@contextmanager
def _log_to(run: Path, accelerator: Accelerator) -> Iterator[None]:
    """Meanwhile, the package's log goes to the run's train.log, on the main process."""
    if not accelerator.is_main_process:
        yield
        return
    handler = logging.FileHandler(run / "train.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("captionist")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()
