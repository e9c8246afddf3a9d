"""Draw the dashboards as a rehearsal fills them: `python -m deploy.grafana.draw [--seconds 240] [docs/dashboards]`.

Grafana looks better; these show, without one, what is on each dashboard, from the answers to its very queries.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from deploy.grafana.drawing import draw_panel
from deploy.grafana.queries import Window, ask, panels
from deploy.grafana.rehearsal import Stage, rehearsed
from deploy.grafana.written import BOARDS

_WIDTH = 13.0  # inches
_UNIT = 0.25  # inches that a unit of Grafana's grid is high
_TOP = 0.6
_DPI = 100
_SCRAPE = 3  # seconds that Grafana would be told: a little smoother than the rehearsal's second


def draw(name: str, stage: Stage) -> Figure:
    """The panels of dashboards/NAME.json with what Prometheus answers."""
    window = Window(stage.begun, stage.ended, _SCRAPE)
    shown = list(panels(name))
    height = _TOP + _UNIT * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown)
    figure = plt.figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="#f4f5f5")
    figure.text(0.008, 1 - 0.24 / height, f"Captionist: {name}", fontsize=14, fontweight="bold", va="center")
    seconds = stage.ended - stage.begun
    figure.text(
        0.992,
        1 - 0.24 / height,
        f"{seconds:.0f} seconds of real traffic, errors and a crash",
        fontsize=9,
        color="#666",
        va="center",
        ha="right",
    )
    for panel in shown:
        place = panel["gridPos"]
        left, width = place["x"] / 24, place["w"] / 24
        bottom = 1 - (_TOP + _UNIT * (place["y"] + place["h"])) / height
        box = (left + 0.004, bottom + 0.03 / height, width - 0.008, (_UNIT * place["h"] - 0.06) / height)
        _place(figure, panel, box, stage, window)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; 256 colors are enough for lines."""
    figure.savefig(path)
    plt.close(figure)
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(path, optimize=True)


def _place(
    figure: Figure, panel: dict[str, Any], box: tuple[float, float, float, float], stage: Stage, window: Window
) -> None:
    left, bottom, width, height = box
    if panel["type"] == "row":
        figure.text(
            left, bottom + height / 2, panel["title"], fontsize=10, fontweight="bold", va="center", color="#333"
        )
        return
    card = FancyBboxPatch(
        (left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.002", facecolor="white", edgecolor="#ddd",
        linewidth=0.8, transform=figure.transFigure, zorder=-1,
    )  # fmt: skip
    figure.add_artist(card)
    answers = [series for target in panel["targets"] for series in ask(stage.prometheus, target, window)]
    draw_panel(figure, panel, box, answers, window)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/dashboards"))
    parser.add_argument("--seconds", type=float, default=240, help="of traffic")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, rehearsed(Path(scratch), given.seconds) as stage:
        for name in BOARDS:
            save(draw(name, stage), given.folder / f"{name}.png")


if __name__ == "__main__":
    main()
