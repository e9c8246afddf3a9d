"""A run that is killed with SIGKILL and resumed ends with exactly the weights of one that was not."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from captionist.errors import RecipeError, TrainingError
from captionist.training.checkpoint import latest_checkpoint, read_progress
from captionist.training.recipe import Recipe, dump_recipe
from captionist.training.train import train
from tests.model.checkpoints import Checkpoints
from tests.training.corpus import write_corpus
from tests.training.runs import frozen, go_on, read_csv, text, whole, write_recipe

Moment = Callable[[Path], bool]
PATIENCE = 300.0  # seconds; far more than any moment takes to come, even on a busy machine


def recipe_in(folder: Path, checkpoints: Checkpoints) -> Path:
    """Everything that has state is on: dropout, augmentation, averages, accumulation, several sources."""
    folder.mkdir()
    write_corpus(folder / "corpus", second_captions=True)
    stages = [
        text(batch_size=1),
        frozen(epochs=2, batch_size=2, average=0.9, label_smoothing=0.05, augment=True, views=2),
        frozen(name="single", batch_size=3, packed=False, naming=0.5, feature_dropout=0.3),
        whole(epochs=2, batch_size=2, average=0.9, keep=0.3, augment=True, accumulate=2),
        frozen(name="critical", objective="self_critical", batch_size=2, samples=2),
        whole(name="mixed", batch_size=None, sources={"root": 2, "extra": 2, "more": 3}, augment=True, accumulate=2),
    ]
    (folder / "text.txt").write_text("a green ball\nit is a blue line\na square\n", encoding="utf-8")
    sources = {"more": {"corpus": str(write_corpus(folder / "more", train=8)), "weight": 0.5}}
    sources["extra"] = {"text": [str(folder / "text.txt")]}
    recipe = write_recipe(folder, checkpoints, stages, sources=sources, checkpoint_every=3)
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("dropout: 0.0", "dropout: 0.2"), encoding="utf-8")
    return recipe


def steps_logged(run: Path) -> int:
    path = run / "steps.csv"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def inside_an_epoch(stage: int) -> Moment:
    """A step or two after a checkpoint that lies inside an epoch of that stage."""

    def reached(run: Path) -> bool:
        checkpoint = latest_checkpoint(run)
        try:
            progress = read_progress(checkpoint) if checkpoint else None
        except TrainingError:  # a newer one has just replaced it
            return False
        return bool(progress and progress.stage == stage and progress.step and steps_logged(run) > progress.total_steps)

    return reached


def writing_a_checkpoint(run: Path) -> bool:
    return any(run.glob("checkpoint-*.partial"))


def scored(epochs: int) -> Moment:
    """This dev score has just been logged; the best model may be half written."""

    def reached(run: Path) -> bool:
        path = run / "epochs.csv"
        return path.exists() and path.read_bytes().count(b"\n") > epochs

    return reached


def kill_when(recipe: Path, runs: Path, moment: Moment) -> None:
    """Start or resume the run, and kill it at that moment."""
    process = go_on(recipe, runs)
    deadline = time.monotonic() + PATIENCE
    while not any(moment(run) for run in runs.glob("tiny-*")):
        assert process.is_alive(), f"it ended with {process.exitcode} before the moment came"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def finish(recipe: Path, runs: Path) -> Path:
    process = go_on(recipe, runs)
    process.join(PATIENCE)
    assert process.exitcode == 0
    (run,) = runs.glob("tiny-*")
    return run


def course(run: Path, name: str, clock: str) -> list[dict[str, str]]:
    """The lines of a log without the column that depends on the machine's speed."""
    return [{key: value for key, value in row.items() if key != clock} for row in read_csv(run / name)]


def assert_same(run: Path, reference: Path) -> None:
    for model in ("last", "best"):
        files = [(path / model / "model.safetensors").read_bytes() for path in (run, reference)]
        assert files[0] == files[1], model
    assert course(run, "steps.csv", "pictures_per_second") == course(reference, "steps.csv", "pictures_per_second")
    assert course(run, "epochs.csv", "seconds") == course(reference, "epochs.csv", "seconds")
    assert (run / "captions.json").read_bytes() == (reference / "captions.json").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return finish(recipe_in(folder, checkpoints), folder / "runs")


@pytest.mark.slow
def test_killed_at_the_worst_moments(uninterrupted: Path, checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe, runs = recipe_in(tmp_path / "killed", checkpoints), tmp_path / "killed" / "runs"
    moments = (
        inside_an_epoch(0),
        inside_an_epoch(1),
        writing_a_checkpoint,
        scored(1),
        scored(2),
        inside_an_epoch(2),
        scored(3),
        inside_an_epoch(3),
        scored(5),
        inside_an_epoch(4),
        inside_an_epoch(5),
    )
    for moment in moments:
        kill_when(recipe, runs, moment)
    assert_same(finish(recipe, runs), uninterrupted)


def test_killed_before_its_recipe_is_written_it_is_no_run(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, it could neither be resumed nor started again by the same command."""

    def killed(_: Recipe) -> str:
        raise SystemExit(137)

    recipe, runs = uninterrupted.parents[1] / "recipe.yaml", tmp_path / "runs"
    monkeypatch.setattr("captionist.training.train.dump_recipe", killed)
    with pytest.raises(SystemExit):
        train(recipe, [], runs=runs)
    assert not list(runs.glob("tiny-*"))


def test_a_run_is_not_begun_over_another(uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, runs = uninterrupted.parents[1] / "recipe.yaml", tmp_path / "runs"

    def begun_by_another(recipe: Recipe) -> str:
        (folder,) = runs.glob(".tiny-*/tiny-*")
        (runs / folder.name).mkdir()
        (runs / folder.name / "recipe.yaml").write_text("theirs", encoding="utf-8")
        return dump_recipe(recipe)

    monkeypatch.setattr("captionist.training.train.dump_recipe", begun_by_another)
    with pytest.raises(TrainingError, match="started in the same second"):
        train(recipe, [], runs=runs)
    (run,) = runs.iterdir()
    assert (run / "recipe.yaml").read_text(encoding="utf-8") == "theirs"


def test_a_finished_run_resumed_stays_as_it_is(uninterrupted: Path) -> None:
    before = (uninterrupted / "last" / "model.safetensors").read_bytes()
    finish(uninterrupted.parents[1] / "recipe.yaml", uninterrupted.parent)
    assert (uninterrupted / "last" / "model.safetensors").read_bytes() == before
    resumed = json.loads((uninterrupted / "environment.json").read_text(encoding="utf-8"))["resumed"]
    assert resumed[-1].keys() == {"at", "commit", "processes"}


def test_another_recipe_is_refused(uninterrupted: Path) -> None:
    recipe = uninterrupted.parents[1] / "recipe.yaml"
    with pytest.raises(RecipeError, match=rf"differs.*{uninterrupted.name}.*resume with .*recipe\.yaml"):
        train(recipe, ["stages.1.epochs=3"], resume=uninterrupted)


def test_only_a_run_is_resumed(uninterrupted: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RecipeError, match="is not a run"):
            train(uninterrupted.parents[1] / "recipe.yaml", [], resume=folder)
        assert not folder.exists() or not list(folder.iterdir())


def test_a_damaged_checkpoint_is_named(uninterrupted: Path, tmp_path: Path) -> None:
    checkpoint = latest_checkpoint(uninterrupted)
    assert checkpoint
    damaged = tmp_path / checkpoint.name
    damaged.mkdir()
    (damaged / "progress.json").write_text('{"stage": "first"', encoding="utf-8")
    with pytest.raises(TrainingError, match=rf"{checkpoint.name} is damaged"):
        read_progress(damaged)
