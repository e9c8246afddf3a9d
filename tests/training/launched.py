"""A training run that writes down what it sees: the program that `accelerate launch` starts in the tests.

python -m tests.training.launched RECIPE RUNS [--kill-at STEP]
"""

import argparse
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captionist.model import alignment
from captionist.training.loop import Trainer
from captionist.training.pictures import PictureSet
from captionist.training.train import train


def main(recipe: Path, runs: Path, kill_at: int | None) -> None:
    """Begin a run, or continue an existing one; die by SIGKILL inside step `kill_at`, after a checkpoint.

    Each process appends a line for each step to RUNS/seen-RANK.jsonl: the step, the unrounded loss, the pictures read.
    """
    torch.set_num_threads(1)
    alignment._DROPOUT = 0.0  # each process would draw its own; see docs/training.md
    epoch, step = Trainer._epoch, Trainer._step
    batches, read = PictureSet.batches, list[int]()

    def note(pictures: PictureSet, numbers: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        for batch, pixels in zip(numbers, batches(pictures, numbers), strict=True):
            if pictures.examples[0].id.startswith("train_"):  # those of the root
                read.extend(batch.tolist())
            yield pixels

    def begin(trainer: Trainer, *arguments: Any) -> None:
        read.clear()  # of what the caches of features read
        epoch(trainer, *arguments)

    def watch(trainer: Trainer, *arguments: Any) -> tuple[float, float]:
        loss, norm = step(trainer, *arguments)
        number = trainer.progress.total_steps + 1
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen = {"step": number, "stage": trainer.progress.stage, "loss": loss, "read": read}
        with (runs / f"seen-{trainer.accelerator.process_index}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(seen) + "\n")
        read.clear()
        return loss, norm

    Trainer._epoch, Trainer._step = begin, watch  # type: ignore[method-assign,assignment]
    PictureSet.batches = note  # type: ignore[method-assign,assignment]
    runs.mkdir(exist_ok=True)
    train(recipe, [], next(runs.glob("tiny-*"), None), runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--kill-at", type=int)
    given = parser.parse_args()
    main(given.recipe, given.runs, given.kill_at)
