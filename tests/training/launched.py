"""A training run that writes down what it sees: the program that `accelerate launch` starts in the tests.

python -m tests.training.launched RECIPE RUNS [--kill-at STEP]
"""

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captionist.training.loop import Trainer
from captionist.training.run import train


class _Watched:
    """The train pictures, and which of them were read."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        if isinstance(part, np.ndarray):  # the others are for the caches of features
            self.read += part.tolist()
        return self.pixels[part]


def main(recipe: Path, runs: Path, kill_at: int | None) -> None:
    """Begin a run, or go on with the one that there is; die by SIGKILL inside step `kill_at`, a checkpoint behind.

    Each process appends a line for each step to RUNS/seen-RANK.jsonl: the step, the loss as it is, the pictures read.
    """
    torch.set_num_threads(1)
    step = Trainer._step
    watched: list[_Watched] = []

    def watch(trainer: Trainer, *arguments: Any) -> tuple[float, float]:
        if not watched:
            watched.append(_Watched(trainer.data.pixels))
            trainer.data.__dict__["pixels"] = watched[0]  # what the cached property would give
        watched[0].read.clear()
        loss, norm = step(trainer, *arguments)
        number = trainer.progress.total_steps + 1
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen = {"step": number, "stage": trainer.progress.stage, "loss": loss, "read": watched[0].read}
        with (runs / f"seen-{trainer.accelerator.process_index}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(seen) + "\n")
        return loss, norm

    Trainer._step = watch  # type: ignore[method-assign,assignment]
    runs.mkdir(exist_ok=True)
    train(recipe, [], next(runs.glob("tiny-*"), None), runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--kill-at", type=int)
    given = parser.parse_args()
    main(given.recipe, given.runs, given.kill_at)
