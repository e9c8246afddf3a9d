"""The report's plots: SVG for a page, with colours from the page's style sheet."""

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captionist.evaluation.calibration import Reliability
from captionist.evaluation.words import Words

# Stand-ins for Matplotlib that become the page's own colours, so that a plot follows it into dark mode.
_INK, _CANDIDATES, _REFERENCES = "#010101", "#010102", "#010103"
_PAGE_COLOURS = {_INK: "var(--muted)", _CANDIDATES: "var(--candidates)", _REFERENCES: "var(--references)"}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # words stay words: smaller, selectable, in the page's font
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_INCHES = (4.6, 3.0)


def length_plot(candidates: Sequence[Words], references: Sequence[Words]) -> str:
    """Return an SVG element: what percentage of sentences has how many words."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "lengths"}):
        figure, axes = _canvas()
        longest = max(len(words) for words in (*candidates, *references))
        edges = np.arange(longest + 2) - 0.5
        for sentences, colour, name in (
            (references, _REFERENCES, "references"),
            (candidates, _CANDIDATES, "candidates"),
        ):
            counts, _ = np.histogram([len(words) for words in sentences], edges)
            share = 100 * counts / len(sentences)
            axes.stairs(share, edges, color=colour, linewidth=1.8, label=name)
            axes.stairs(share, edges, color=colour, alpha=0.18, fill=True)
        axes.set_xlabel("words in a sentence")
        axes.set_ylabel("% of sentences")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.legend()
        return _svg(figure)


def vocabulary_plot(candidates: Sequence[Words], references: Sequence[Words]) -> str:
    """Return an SVG element: the share of all words that each word has, by rank, on logarithmic axes.

    A captioner that falls back on a few safe words breaks off far to the left of the people it learnt from.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "vocabulary"}):
        figure, axes = _canvas()
        for sentences, colour, name in (
            (references, _REFERENCES, "references"),
            (candidates, _CANDIDATES, "candidates"),
        ):
            counts = np.array(sorted(Counter(word for words in sentences for word in words).values(), reverse=True))
            ranks = np.arange(1, len(counts) + 1)
            label = f"{name}: {len(counts):,} words"
            axes.loglog(ranks, 100 * counts / max(1, counts.sum()), color=colour, linewidth=1.8, label=label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.set_xlabel("rank of the word")
        axes.set_ylabel("% of all words")
        axes.legend(loc="lower left")
        return _svg(figure)


def reliability_plot(reliability: Reliability) -> str:
    """Return an SVG element: the confidence claimed against the share accepted; on the diagonal, the two agree."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "reliability"}):
        figure, axes = _canvas()
        axes.plot([0, 100], [0, 100], color=_REFERENCES, linewidth=1.2, linestyle="--", label="kept word")
        shares = np.array([group.accepted for group in reliability.bins])
        counts = np.array([group.captions for group in reliability.bins])
        axes.errorbar(
            [100 * group.confidence for group in reliability.bins],
            100 * shares,
            yerr=196 * np.sqrt(shares * (1 - shares) / counts),
            color=_CANDIDATES,
            fmt="o",
            markersize=5,
            linewidth=1.2,
            label=f"{counts.mean():.0f} captions each, 95 % interval",
        )
        axes.set_xlabel("mean confidence, %")
        axes.set_ylabel("acceptable captions, %")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.legend(loc="upper left")
        return _svg(figure)


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES, layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    # Without metadata, there is no date, and the same scores give the same page.
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = stream.getvalue()
    for stand_in, colour in _PAGE_COLOURS.items():
        drawing = drawing.replace(stand_in, colour)
    return drawing[drawing.index("<svg") :].replace("<svg ", '<svg aria-hidden="true" ', 1)
