"""Recipes of tiny runs, and a process to run one in."""

import csv
import functools
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from captionist.data import Example
from captionist.training.train import train
from tests.model.checkpoints import MEAN, SIZE, STD, Checkpoints, make_checkpoints
from tests.training.corpus import write_corpus

Json = dict[str, Any]


def write_recipe(
    folder: Path,
    checkpoints: Checkpoints,
    stages: list[Json],
    alignment: int | None = None,
    sources: Json | None = None,
    **changes: Any,
) -> Path:
    """A recipe on the corpus in folder/corpus, which is made if it is not there; `changes` are top-level keys."""
    corpus = folder / "corpus"
    if not corpus.exists():
        write_corpus(corpus)
    recipe = {
        "name": "tiny",
        "seed": 7,
        "precision": "fp32",
        "log_every": 1,
        "data": {"root": str(corpus), "cache": str(folder / "cache"), "leak_check": False, "sources": sources or {}},
        "model": {
            "encoder": {
                "family": "vit",
                "weights": checkpoints.path("vit"),
                "resolution": SIZE,
                "mean": list(MEAN),
                "std": list(STD),
            },
            "decoder": {"weights": checkpoints.path("gpt2"), "vocabulary": "corpus", "dropout": 0.0},
            "prefix_grid": 2,
            "alignment": alignment,
        },
        "stages": stages,
        "search": {"num_beams": 1},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


class NameLength:
    """An annotation: how long a picture's name is, or a sentence, and something drawn."""

    name: str = "length"
    shape: tuple[int, ...] = (2,)
    version: str = "1"

    def __init__(self) -> None:
        self.computed, self.heard = 0, list[str]()
        self.learnt: tuple[int, tuple[int, ...]] = 0, ()

    def compute(self, example: Example) -> NDArray[np.float32]:
        self.computed += 1
        return np.full(self.shape, len(example.image.name), np.float32)

    def learn(self, examples: Sequence[Example], arrays: NDArray[np.float32]) -> None:
        self.learnt = len(examples), arrays.shape

    def simulate(self, sentence: str, rng: np.random.Generator) -> NDArray[np.float32]:
        self.heard.append(sentence)
        return (len(sentence) + rng.random(self.shape) / 2).astype(np.float32)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines of a run's log."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def frozen(**changes: Any) -> Json:
    """A stage on the cached features of a frozen backbone."""
    rates = {"projection": 3e-3, "decoder": 3e-3}
    return {"name": "frozen", "epochs": 1, "batch_size": 4, "rates": rates} | changes


def whole(**changes: Any) -> Json:
    """A stage that trains the encoder too."""
    rates = {"encoder": 1e-3, "projection": 3e-3, "decoder": 3e-3}
    return {"name": "together", "frozen": 0, "epochs": 1, "batch_size": 4, "rates": rates} | changes


def heads(**changes: Any) -> Json:
    """A stage that teaches a frozen model to compare pictures with sentences."""
    return {
        "name": "heads",
        "objective": "contrastive",
        "epochs": 20,
        "batch_size": 16,
        "rates": {"alignment": 3e-3},
    } | changes


def text(**changes: Any) -> Json:
    """A stage on captions alone."""
    return {"name": "language", "objective": "text", "epochs": 1, "batch_size": 2, "rates": {"decoder": 3e-3}} | changes


@functools.cache
def overfit(folder: Path) -> Path:
    """A run that has memorised its sixteen pictures; trained once for all tests that name the same folder."""
    stages = [whole(epochs=30), heads()]
    folder.mkdir()
    recipe = write_recipe(folder, make_checkpoints(folder / "checkpoints"), stages, alignment=16)
    torch.set_num_threads(1)
    return train(recipe, [], runs=folder / "runs")


def start(target: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Run what trains in a separate process, which may be killed.

    It is forked from a server that has imported everything, since importing takes longer than these runs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.runs", "tests.training.launched"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def go_on(recipe: Path, runs: Path) -> BaseProcess:
    """Begin a run, or resume an existing one, in a separate process."""
    return start(_train, recipe, runs, next(runs.glob("tiny-*"), None))


def _train(recipe: Path, runs: Path, resume: Path | None) -> None:
    torch.set_num_threads(1)
    train(recipe, [], resume, runs)
