"""A run's curves, one above the other over the same seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image

from deploy.fleet.scenarios import QUEUE_TARGET

_GREEN, _YELLOW, _BLUE, _ORANGE, _RED, _GRAY = "#3f9e3f", "#d9a400", "#3d71d9", "#ef843c", "#d64550", "#6b7280"
_LIGHT = "#9db8ea"


def draw(title: str, seconds: dict[str, list[Any]], events: Sequence[tuple[float, str]], path: Path) -> None:
    """Write a PNG."""
    several = len({version for row in seconds["versions"] for version in row}) > 1
    panels = [_requests, _latency, _tasks, _queue, *([_versions] if several else [])]
    figure, rows = plt.subplots(
        len(panels), 1, sharex=True, figsize=(11, 2.0 * len(panels) + 0.9), dpi=100, layout="constrained"
    )
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    for axes, panel in zip(rows, panels, strict=True):
        panel(axes, seconds)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eee", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(labelsize=8, length=2)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False, handlelength=1.2)
    rows[-1].set_xlim(0, len(seconds["offered"]))
    rows[-1].set_xlabel("seconds", fontsize=8)
    _mark(rows, events)
    figure.savefig(path)
    plt.close(figure)
    with Image.open(path) as image:  # 256 colors are enough for lines
        image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(path, optimize=True)


def _mark(rows: Sequence[Axes], events: Sequence[tuple[float, str]]) -> None:
    """A line through all panels for each event; its number stands above, what it says below."""
    apart = rows[-1].get_xlim()[1] / 50
    together: list[list[int]] = []
    for number, (second, _) in enumerate(events, 1):
        for axes in rows:
            axes.axvline(second, color=_GRAY, linewidth=0.6, linestyle=":")
        if together and second - events[together[-1][0] - 1][0] < apart:
            together[-1].append(number)
        else:
            together.append([number])
    for numbers in together:
        first, *others = numbers
        rows[0].annotate(
            f"{first}-{others[-1]}" if others else str(first), (events[first - 1][0], 1), (0, 2), fontsize=7.5,
            xycoords=("data", "axes fraction"), textcoords="offset points", color=_GRAY, ha="center",
        )  # fmt: skip
    said = [f"{number}  {second:.0f} s: {what}" for number, (second, what) in enumerate(events, 1)]
    third = -(-len(said) // 3)
    for column in range(3):
        text = "\n".join(said[column * third : (column + 1) * third])
        rows[-1].annotate(
            text, (column / 3, 0), (0, -30), xycoords="axes fraction", textcoords="offset points", fontsize=7.5,
            color="#333", va="top",
        )  # fmt: skip


def _requests(axes: Axes, seconds: dict[str, list[Any]]) -> None:
    every = range(len(seconds["offered"]))
    failed = [sum(count for status, count in row.items() if status != "200") for row in seconds["statuses"]]
    axes.step(every, seconds["offered"], where="post", color=_GRAY, linewidth=0.9, label="offered")
    axes.step(every, _smooth(seconds["offered"]), where="post", color="black", linewidth=1.3, label="offered, 5 s mean")
    axes.step(
        every, _smooth(seconds["answered"]), where="post", color=_GREEN, linewidth=1.3, label="answered, 5 s mean"
    )
    axes.bar(every, failed, width=1, align="edge", color=_RED, label="refused or failed")
    axes.set_ylabel("requests a second", fontsize=8)


def _latency(axes: Axes, seconds: dict[str, list[Any]]) -> None:
    for name, color in (("p99", _RED), ("p95", _ORANGE), ("p50", _GREEN)):
        values = np.array([np.nan if value is None else value / 1000 for value in seconds[name]])
        axes.plot(values, color=color, linewidth=1.2, label=f"{name}, last 5 s")
    axes.set_ylabel("latency, s", fontsize=8)


def _tasks(axes: Axes, seconds: dict[str, list[Any]]) -> None:
    every = range(len(seconds["ready"]))
    axes.fill_between(every, seconds["running"], step="post", color=_LIGHT, alpha=0.6, linewidth=0, label="running")
    axes.fill_between(every, seconds["ready"], step="post", color=_GREEN, alpha=0.6, linewidth=0, label="ready")
    axes.step(every, seconds["desired"], where="post", color="black", linewidth=1.2, label="desired")
    axes.step(every, seconds["draining"], where="post", color=_YELLOW, linewidth=1.2, label="draining")
    axes.set_ylabel("tasks", fontsize=8)


def _queue(axes: Axes, seconds: dict[str, list[Any]]) -> None:
    values = np.array([np.nan if value is None else value for value in seconds["queue_depth"]])
    axes.step(range(len(values)), values, where="post", color=_BLUE, linewidth=1.2, label="QueueDepth")
    axes.axhline(QUEUE_TARGET, color=_GRAY, linewidth=0.9, linestyle="--", label="target")
    axes.set_ylabel("pictures a task", fontsize=8)


def _versions(axes: Axes, seconds: dict[str, list[Any]]) -> None:
    bottom = np.zeros(len(seconds["versions"]))
    found = dict.fromkeys(version for row in seconds["versions"] for version in row)
    for version, color in zip(found, (_LIGHT, _BLUE), strict=True):
        counts = np.array([row.get(version, 0) for row in seconds["versions"]], float)
        axes.bar(range(len(counts)), counts, 1.0, bottom, align="edge", color=color, label=f"by version {version}")
        bottom += counts
    axes.set_ylabel("answers a second", fontsize=8)


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean of the last five seconds."""
    return [float(np.mean(values[max(place - 4, 0) : place + 1])) for place in range(len(values))]
