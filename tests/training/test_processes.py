"""Two processes, started by `accelerate launch`, train what one does: with DDP and FSDP, also killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from captionist.training.checkpoint import latest_checkpoint, read_progress
from tests.model.checkpoints import Checkpoints
from tests.training import launched
from tests.training.corpus import write_corpus
from tests.training.runs import frozen, heads, start, whole, write_recipe

pytestmark = pytest.mark.slow

PATIENCE = 300.0  # seconds
ROUNDING = 1e-4  # a picture that is left out, or counted twice, costs a hundred times as much
DDP = ("--multi_gpu",)  # on CPUs, see `launch`
FSDP = ("--use_fsdp", "--fsdp_version", "2")


def alone(recipe: Path, runs: Path, kill_at: int | None = None) -> None:
    """Train, or go on, in one process."""
    process = start(launched.main, recipe, runs, kill_at)
    process.join(PATIENCE)
    assert process.exitcode == (-signal.SIGKILL if kill_at else 0)


def launch(kind: tuple[str, ...], recipe: Path, runs: Path, kill_at: int | None = None) -> None:
    """Train, or continue, in two processes.

    `--cpu` starts no second one without MPI and is refused together with `--use_fsdp`, so the variable that it sets is
    set here; with it, `--multi_gpu` means DDP over gloo.
    """
    program = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *kind]
    program += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    program += ["--main_process_port", "0", "-m", "tests.training.launched", str(recipe), str(runs)]
    program += ["--kill-at", str(kill_at)] if kill_at else []
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode != 0) is bool(kill_at), done.stderr


def seen(runs: Path, process: int) -> list[dict[str, Any]]:
    """The steps as one process saw them, in order; some came twice, after a kill."""
    lines = (runs / f"seen-{process}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def stands_inside_an_epoch(runs: Path) -> bool:
    (run,) = runs.glob("tiny-*")
    checkpoint = latest_checkpoint(run)
    return bool(checkpoint and read_progress(checkpoint).step)


def assert_same_losses(runs: Path, reference: Path) -> None:
    expected = {step["step"]: step["loss"] for step in seen(reference, 0)}
    assert sorted(expected) == list(range(1, 21))
    found = seen(runs, 0)
    assert {step["step"] for step in found} == set(expected)
    for step in found:
        assert step["loss"] == pytest.approx(expected[step["step"]], abs=ROUNDING), step


@pytest.fixture(scope="module")
def recipe(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every objective that sees pictures, in 20 steps, one of them on three sources, with all randomness except
    dropout.

    The frozen stages come first, since features are cached in half precision: if a backbone had been trained before, a
    difference between two processes in the eighth digit could become one in the fourth. For the same reason, sampling
    comes before the stage that learns most. The model has learnt a little before: whatever a new one samples earns
    nothing.
    """
    folder = tmp_path_factory.mktemp("processes")
    write_corpus(folder / "corpus", second_captions=True)
    (folder / "text.txt").write_text("a green ball\nit is a blue line\na square\n", encoding="utf-8")
    sources = {"more": {"corpus": str(write_corpus(folder / "more", train=8)), "weight": 0.5}}
    sources["extra"] = {"text": [str(folder / "text.txt")]}
    before = write_recipe(folder, checkpoints, [whole(epochs=10)], alignment=8).rename(folder / "before.yaml")
    alone(before, folder / "before")
    begun = next((folder / "before").glob("tiny-*")) / "last"
    stages = [
        heads(epochs=1, batch_size=4),
        frozen(augment=True, views=2, naming=0.2, batch_size=None, sources={"root": 4, "extra": 2, "more": 2}),
        whole(name="critical", objective="self_critical", samples=3, augment=True, warmup=0),
        whole(epochs=2, augment=True, accumulate=2, average=0.9, keep=0.2),
    ]
    changes: dict[str, Any] = {"alignment": 8, "checkpoint_every": 2, "start": str(begun)}
    return write_recipe(folder, checkpoints, stages, **changes, sources=sources)


@pytest.fixture(scope="module")
def reference(recipe: Path) -> Path:
    """One process, left alone."""
    runs = recipe.parent / "alone"
    alone(recipe, runs)
    assert all(abs(step["loss"]) > 2 * ROUNDING for step in seen(runs, 0))
    return runs


@pytest.fixture(scope="module")
def two(recipe: Path) -> Path:
    """Two processes with DDP, killed in the last epoch and resumed as one."""
    runs = recipe.parent / "two"
    launch(DDP, recipe, runs, kill_at=20)
    assert stands_inside_an_epoch(runs)
    alone(recipe, runs)
    return runs


def test_ddp_has_the_losses_of_one_process(reference: Path, two: Path) -> None:
    """The same for one process that continues where two were killed."""
    assert_same_losses(two, reference)
    assert [step["step"] for step in seen(two, 0)] == [*range(1, 20), 19, 20]


def test_every_picture_is_read_once_an_epoch(two: Path) -> None:
    both = [*seen(two, 0), *seen(two, 1)]
    for epoch in (range(9, 13), range(13, 17)):
        read = [picture for step in both if step["step"] in epoch for picture in step["read"]]
        assert sorted(read) == list(range(16))
    shares = [{step["step"]: step["read"] for step in seen(two, process)} for process in (0, 1)]
    assert all(len(shares[0][step]) == len(shares[1][step]) == 2 for step in range(9, 17))


def test_fsdp_has_the_losses_of_one_process(recipe: Path, reference: Path) -> None:
    """They load what one process saved when it was killed, and one process continues where they were."""
    runs = recipe.parent / "sharded"
    alone(recipe, runs, kill_at=4)
    assert stands_inside_an_epoch(runs)
    launch(FSDP, recipe, runs, kill_at=20)
    assert stands_inside_an_epoch(runs)
    alone(recipe, runs)
    assert_same_losses(runs, reference)
    assert [step["step"] for step in seen(runs, 1)] == list(range(3, 20))
    (run,) = runs.glob("tiny-*")
    resumed = json.loads((run / "environment.json").read_text(encoding="utf-8"))["resumed"]
    assert [entry["processes"] for entry in resumed] == [2, 1]
