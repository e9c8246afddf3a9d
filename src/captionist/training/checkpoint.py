"""Checkpoints, written next to the old one and renamed, so that a kill at any moment leaves a whole one."""

import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from captionist.errors import TrainingError
from captionist.model.fusion import VisionPrefixLM

_PREFIX = "checkpoint-"


class Progress(BaseModel):
    """Where a run stands: `step` optimizer steps of epoch `epoch` of stage `stage` are done."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    to_validate: bool = False
    """The epoch before this one must still be scored."""
    best: float | None = None
    """The best dev CIDEr of the run so far."""


def latest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    found = sorted(p for p in run.glob(f"{_PREFIX}*") if p.suffix != ".partial")
    return found[-1] if found else None


def save_checkpoint(run: Path, progress: Progress, model: VisionPrefixLM, state: dict[str, Any]) -> None:
    """Write the model, `state` (the optimizer's and the average's) and the progress; older checkpoints are deleted."""
    older = latest_checkpoint(run)
    number = int(older.name.removeprefix(_PREFIX)) + 1 if older else 0
    path = run / f"{_PREFIX}{number:08d}"
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save(partial)
    torch.save(state, partial / "state.pt")
    (partial / "progress.json").write_text(progress.model_dump_json(), encoding="utf-8")
    partial.rename(path)
    for other in run.glob(f"{_PREFIX}*"):
        if other != path:
            shutil.rmtree(other)


def read_progress(checkpoint: Path) -> Progress:
    """Raises TrainingError if the checkpoint is damaged."""
    try:
        return Progress.model_validate_json((checkpoint / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{checkpoint} is damaged ({error}); delete it to start the run again.") from error


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The `state` that `save_checkpoint` was given."""
    state: dict[str, Any] = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
    return state
