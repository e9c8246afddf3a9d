"""What a run leaves for people: CSV, TensorBoard events, and a plot of loss and scores."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from torch.utils.tensorboard import SummaryWriter

from captionist.training.checkpoint import Progress

_STEP_FIELDS = ("step", "stage", "epoch", "loss", "rate", "gradient_norm", "pictures_per_second")
_RECALLS = tuple(f"{way}_{rank}" for way in ("image_to_text", "text_to_image") for rank in (1, 5, 10))
_SCORES = ("cider", "bleu_4", "distinct")
_EPOCH_FIELDS = ("step", "stage", "epoch", *_SCORES, "seconds", *_RECALLS)


class RunLog:
    """The log of one run directory; a resumed run first drops what the killed one wrote after its checkpoint."""

    def __init__(self, run: Path, progress: Progress, corpora: Sequence[str] = ()) -> None:
        """corpora: those whose scores are listed beside the mean, each as `NAME/...`."""
        self.run = run
        self._fields = (*_EPOCH_FIELDS, *(f"{corpus}/{m}" for corpus in corpora for m in (*_SCORES, *_RECALLS)))
        _drop_after(run / "steps.csv", progress.total_steps)
        _drop_after(run / "epochs.csv", progress.total_steps - progress.to_validate)
        self._events = SummaryWriter(str(run / "tensorboard"), purge_step=progress.total_steps + 1)

    def step(self, **values: Any) -> None:
        """One line of steps.csv."""
        _append(self.run / "steps.csv", _STEP_FIELDS, values)
        for name in ("loss", "rate", "gradient_norm"):
            self._events.add_scalar(f"train/{name}", values[name], values["step"])

    def epoch(self, **values: Any) -> None:
        """One line of epochs.csv, and a new loss.png."""
        _append(self.run / "epochs.csv", self._fields, values)
        for name in (name for name in values if name.rpartition("/")[2] in ("cider", "bleu_4")):
            self._events.add_scalar(f"dev/{name}", values[name], values["step"])
        self._events.flush()
        draw(self.run)

    def samples(self, captions: dict[str, str]) -> None:
        """The latest dev captions, by picture, in captions.json."""
        (self.run / "captions.json").write_text(json.dumps(captions, indent=1), encoding="utf-8")

    def close(self) -> None:
        """Flush and close the TensorBoard events."""
        self._events.close()


def draw(run: Path) -> None:
    """loss.png: training loss, and dev CIDEr and BLEU-4, over the steps."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps, epochs = _read(run / "steps.csv"), _read(run / "epochs.csv")
    figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    stages = list(dict.fromkeys(row["stage"] for row in steps))
    for stage in stages:
        rows = [row for row in steps if row["stage"] == stage]
        top.plot([int(r["step"]) for r in rows], [float(r["loss"]) for r in rows], label=stage, linewidth=0.8)
    top.set_ylabel("training loss (nats a token)")
    if stages:
        top.legend()
    for name, label in (("cider", "CIDEr"), ("bleu_4", "BLEU-4")):
        bottom.plot([int(r["step"]) for r in epochs], [float(r[name]) for r in epochs], marker="o", label=label)
    bottom.set_xlabel("step")
    bottom.set_ylabel("dev score")
    if epochs:
        bottom.legend()
    figure.savefig(run / "loss.png", dpi=120)
    pyplot.close(figure)


def _append(path: Path, fields: tuple[str, ...], values: dict[str, Any]) -> None:
    new = not path.exists() or path.stat().st_size == 0  # a kill may come between creating the file and its first line
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(values)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _drop_after(path: Path, step: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    # A killed run may have left half a line, with any number of fields; it is dropped, too.
    kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) <= step]
    if lines:
        path.write_text("".join(lines[:1] + kept), encoding="utf-8")
