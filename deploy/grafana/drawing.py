"""One panel in the manner of Grafana, with matplotlib."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, MultipleLocator

from deploy.grafana.queries import Answered, Window

Box = tuple[float, float, float, float]
"""Left, bottom, width and height, as parts of the figure."""
_LINES = (
    "#3f9e3f", "#e0a800", "#3d71d9", "#ef843c", "#d64550", "#8f5bb5", "#33a2a2", "#9a6a3a", "#6b7280", "#c15c9b",
)  # fmt: skip
_COLORS = {"green": "#3f9e3f", "yellow": "#d9a400", "orange": "#ef843c", "red": "#d64550", "blue": "#3d71d9"}
_BYTES = ("B", "KiB", "MiB", "GiB")


def draw_panel(figure: Figure, panel: dict[str, Any], box: Box, answers: Sequence[Answered], window: Window) -> None:
    """A panel with the answers to its queries."""
    left, bottom, width, height = box
    inch = 1 / figure.get_figheight()
    figure.text(
        left + 0.006, bottom + height - 0.15 * inch, panel["title"], fontsize=8.5, fontweight="bold", va="center"
    )
    if panel["type"] == "stat":
        _number(figure, panel, box, answers)
        return
    if panel["type"] == "table":
        _table(figure, panel, box, answers)
        return
    rows = math.ceil(min(len(answers), 9) / 3)
    foot = 0.26 + (0.16 * rows if panel["type"] == "timeseries" else 0)
    axes = figure.add_axes((left + 0.045, bottom + foot * inch, width - 0.055, height - (foot + 0.34) * inch))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7, length=2, colors="#555")
    axes.set_xlim(0, window.ended - window.begun)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{int(t) // 60}:{int(t) % 60:02d}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 6, 10]))
    {"timeseries": _curves, "state-timeline": _states, "heatmap": _spread}[panel["type"]](axes, panel, answers, window)
    if panel["type"] == "timeseries":
        axes.legend(
            loc="upper left", bbox_to_anchor=(left + 0.006, bottom + (foot - 0.21) * inch), fontsize=6.5, ncols=3,
            bbox_transform=figure.transFigure, frameon=False, handlelength=1.0, columnspacing=1.0, labelspacing=0.25,
            handletextpad=0.4, borderaxespad=0, borderpad=0,
        )  # fmt: skip


def _number(figure: Figure, panel: dict[str, Any], box: Box, answers: Sequence[Answered]) -> None:
    left, bottom, width, height = box
    defaults = panel["fieldConfig"]["defaults"]
    value = answers[0].values[-1] if answers else math.nan
    color = "blue"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    text = defaults["noValue"] if math.isnan(value) else said(value, defaults["unit"], defaults.get("decimals"))
    figure.text(
        left + width / 2, bottom + 0.42 * height, text, fontsize=17, fontweight="bold", color=_COLORS[color],
        ha="center", va="center",
    )  # fmt: skip


def _table(figure: Figure, panel: dict[str, Any], box: Box, answers: Sequence[Answered]) -> None:
    left, bottom, width, height = box
    options = panel["transformations"][0]["options"]
    value = options["renameByName"]["Value"]
    columns = [
        value if name == "Value" else name for name in sorted(options["indexByName"], key=options["indexByName"].get)
    ]
    rows = [[f"{s.values[-1]:.0f}" if name == value else s.labels[name] for name in columns] for s in answers]
    widths = [max(len(row[place]) for row in [columns, *rows]) + 2 for place in range(len(columns))]
    inch = 1 / figure.get_figheight()
    for number, row in enumerate([columns, *rows]):
        y = bottom + height - (0.45 + 0.24 * number) * inch
        for place, cell in enumerate(row):
            x = left + 0.006 + (width - 0.01) * sum(widths[:place]) / sum(widths)
            figure.text(x, y, cell, fontsize=7.5, va="center", color="#555" if number == 0 else "black")


def _curves(axes: Axes, panel: dict[str, Any], answers: Sequence[Answered], window: Window) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    grid = np.arange(0, window.ended - window.begun + 1e-6, window.step)
    rows = [_on(grid, series, window) for series in answers]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    if stacked:
        rows = [np.nan_to_num(row) for row in rows]
    base = np.zeros_like(grid)
    for number, (series, row) in enumerate(zip(answers, rows, strict=True)):
        color = _LINES[number % len(_LINES)]
        top = base + row if stacked else row
        style = "steps-post" if custom.get("lineInterpolation") == "stepAfter" else "default"
        axes.plot(grid, top, color=color, linewidth=1.1, label=_entry(series, defaults), drawstyle=style)
        if stacked:
            axes.fill_between(grid, base, top, color=color, alpha=0.35, linewidth=0)
            base = top
    highest = max((np.nanmax(row) for row in [*rows, base] if not np.isnan(row).all()), default=1.0)
    lowest = min((np.nanmin(row) for row in rows if not np.isnan(row).all()), default=0.0)
    bottom = defaults.get("min", lowest - 0.05 * (highest - lowest))
    top_limit = defaults.get("max", highest + 0.08 * (highest - bottom) or 1.0)
    axes.set_ylim(bottom, top_limit if top_limit > bottom else bottom + 1)
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["color"] in _COLORS and step["value"] is not None and step["value"] < axes.get_ylim()[1]:
            axes.axhline(step["value"], color=_COLORS[step["color"]], linewidth=0.8, linestyle="--")
    axes.yaxis.set_major_locator(_ticks(axes.get_ylim()[1], defaults))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: said(value, defaults["unit"], short=True)))
    axes.grid(axis="y", color="#eee", linewidth=0.6)
    axes.set_axisbelow(True)


def _ticks(top: float, defaults: dict[str, Any]) -> Locator:
    """Where an axis gets its ticks: at whole minutes and powers of two where such are meant."""
    if defaults["unit"] == "bytes":
        return MultipleLocator(2 ** math.ceil(math.log2(top / 5)))
    if defaults["unit"] == "s" and top > 120:
        return MultipleLocator(60 * math.ceil(top / 60 / 5))
    return MaxNLocator(5, integer=defaults.get("decimals") == 0)


def _states(axes: Axes, panel: dict[str, Any], answers: Sequence[Answered], window: Window) -> None:
    values = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for row, series in enumerate(answers):
        for moment, value in zip(series.times, series.values, strict=True):
            color = _COLORS[values[f"{value:.0f}"]["color"]]
            axes.barh(row, window.step, left=moment - window.begun, height=0.6, color=color, alpha=0.75, linewidth=0)
        axes.text(0, row + 0.36, series.legend, fontsize=7, color="#333")
    axes.set_yticks([])
    axes.set_ylim(-0.6, len(answers) - 0.1)


def _spread(axes: Axes, panel: dict[str, Any], answers: Sequence[Answered], window: Window) -> None:
    grid = np.arange(0, window.ended - window.begun + 1e-6, window.step)
    order = sorted((series for series in answers if series.labels["le"] != "+Inf"), key=lambda s: float(s.labels["le"]))
    counts = np.diff([np.zeros_like(grid), *(np.nan_to_num(_on(grid, series, window)) for series in order)], axis=0)
    edges = np.array([0, *(float(series.labels["le"]) for series in order)])
    axes.pcolormesh(grid, edges, np.ma.masked_equal(counts[:, :-1], 0), cmap="Oranges", vmin=0)
    unit = panel["options"]["yAxis"]["unit"]
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: said(value, unit, short=True)))


def _on(grid: np.ndarray[Any, Any], series: Answered, window: Window) -> np.ndarray[Any, Any]:
    """The series at the grid's moments; NaN where it has no point."""
    row = np.full_like(grid, np.nan)
    for moment, value in zip(series.times, series.values, strict=True):
        row[round((moment - window.begun) / window.step)] = value
    return row


def _entry(series: Answered, defaults: dict[str, Any]) -> str:
    known = [value for value in series.values if not math.isnan(value)]
    return f"{series.legend} ({said(known[-1], defaults['unit'])})" if known else series.legend


def said(value: float, unit: str, decimals: int | None = None, short: bool = False) -> str:
    """A value with its unit, as Grafana writes it; short: for an axis."""
    if unit == "percentunit":
        value, unit = 100 * value, "suffix: %" if not short else "suffix:%"
    elif unit == "bytes":
        power = min(int(math.log2(value) / 10), 3) if value >= 1 else 0
        value, unit = value / 1024**power, f"suffix: {_BYTES[power]}"
    elif unit == "s":
        name, factor = next(
            (pair for pair in (("min", 1 / 60), ("s", 1.0), ("ms", 1e3), ("µs", 1e6)) if abs(value) * pair[1] >= 1),
            ("s", 1),
        )
        value, unit = value * factor, f"suffix: {name}"
    elif unit == "reqps":
        unit = "suffix:/s"
    elif short and unit.startswith("suffix: "):
        unit = "none"
    suffix = unit.removeprefix("suffix:") if unit.startswith("suffix:") else ""
    number = (
        f"{value:.{decimals}f}" if decimals is not None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    )
    return number + suffix
