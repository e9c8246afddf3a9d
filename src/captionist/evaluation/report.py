"""The page on which a person reads the scores: one HTML file that needs no other file and loads nothing."""

import base64
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import chain
from pathlib import Path

from captionist.errors import ImageError, ScoreError
from captionist.evaluation.calibration import Reliability
from captionist.evaluation.plots import length_plot, reliability_plot, vocabulary_plot
from captionist.evaluation.retrieval import Recall
from captionist.evaluation.scores import Measure, Scores
from captionist.evaluation.tokenize import tokenize
from captionist.evaluation.words import Words
from captionist.images import ImageFile, decode, encode_jpeg, thumbnail

_SHOWN = 12
_THUMBNAIL_PIXELS = 224

# Whatever a caption or a file name holds, a browser shows this page without contacting anyone.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class ReportRow:
    """One scored picture; `cider` is its CIDEr-D times 100, from `cider_by_picture`, `confidence` the caption's."""

    id: str
    image: ImageFile
    candidate: str
    references: Sequence[str]
    cider: float
    confidence: float


def write_report(
    path: Path,
    title: str,
    scores: Scores,
    rows: Sequence[ReportRow],
    reliability: Reliability | None = None,
    recall: Recall | None = None,
) -> None:
    """Write one self-contained HTML page to `path`: scores, recall, plots of lengths, vocabulary and reliability, and
    pictures.

    It shows 12 pictures drawn at random (the same ones for the same ids), the 12 with the highest CIDEr-D and the 12
    with the lowest, each as a JPEG of at most 224 pixels inside the page. A picture that cannot be read leaves a frame
    that says so.

    Raises ScoreError if there are no rows or the page cannot be written.
    """
    if not rows:
        raise ScoreError("There is nothing to report: give at least one scored picture.")
    ordered = sorted(rows, key=lambda row: (-row.cider, row.id))
    drawn = random.Random(0).sample(sorted(rows, key=lambda row: row.id), min(_SHOWN, len(rows)))
    sections = [
        _score_section(scores, recall),
        _plot_section(rows),
        _reliability_section(reliability) if reliability else "",
        _picture_section("Random pictures", "A fair impression: drawn without regard to the score.", drawn),
        _picture_section("Best pictures", "Highest CIDEr-D first.", ordered[:_SHOWN]),
        _picture_section("Worst pictures", "Lowest CIDEr-D first.", ordered[: -_SHOWN - 1 : -1]),
    ]
    style = files("captionist.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{"".join(sections)}</main>
</body>
</html>
"""
    try:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of folders may not be text
    except OSError as error:
        raise ScoreError(f"{path}: the report cannot be written ({error.strerror}). Give another path.") from error


def _score_section(scores: Scores, recall: Recall | None) -> str:
    facts = [
        f"{scores.pictures:,} pictures",
        f"{scores.references_per_picture:.3g} references each",
        f"{scores.mean_words:.1f} words a caption",
        f"{scores.distinct_share:.1%} of the captions distinct",
    ]
    if scores.empty_candidates:
        facts.append(f"{scores.empty_candidates:,} captions without a word, scored as zero")
    measures = scores.measures()
    notes = [*scores.notes, f"{recall.line()}."] if recall else scores.notes
    full_scale = max(100.0, *(measure.high for measure in measures.values()))
    return f"""<ul class="facts muted">{_items(facts)}</ul>
<div class="panel">
<table>
<thead><tr><th scope="col">Score</th><th scope="col" class="number">Value</th>
<th scope="col" class="number">95 % interval</th><td class="scale"></td></tr></thead>
<tbody>
{"".join(_score_row(name, measure, full_scale) for name, measure in measures.items())}</tbody>
</table>
</div>
<p class="muted">Words: {escape(scores.tokenisation)}. Intervals: bootstrap over pictures.</p>
{"".join(f'<p class="note">{escape(note)}</p>' for note in notes)}
"""


def _score_row(name: str, measure: Measure, full_scale: float) -> str:
    value, low, high = (100 * figure / full_scale for figure in (measure.value, measure.low, measure.high))
    return f"""<tr><th scope="row">{escape(name)}</th><td class="number value">{measure.value:.1f}</td>
<td class="number">{measure.low:.1f} to {measure.high:.1f}</td>
<td class="scale"><span class="bar" aria-hidden="true"><span style="width:{value:.2f}%"></span>\
<span class="interval" style="left:{low:.2f}%;width:{high - low:.2f}%"></span></span></td></tr>
"""


def _plot_section(rows: Sequence[ReportRow]) -> str:
    candidates = [tokenize(row.candidate) for row in rows]
    references = [tokenize(reference) for row in rows for reference in row.references]
    lengths = (
        f"How long the sentences are: {_mean_length(candidates):.1f} words on average in the candidates, "
        f"{_mean_length(references):.1f} in the references."
    )
    words, reference_words = set(chain.from_iterable(candidates)), set(chain.from_iterable(references))
    vocabulary = (
        f"How often each word is used, the most frequent first: the candidates use {len(words):,} different words, the "
        f"references {len(reference_words):,}; {len(words - reference_words):,} of the candidates' are in no reference."
    )
    return f"""<h2>Length and vocabulary</h2>
<div class="plots">
<figure class="panel">{length_plot(candidates, references)}<figcaption>{lengths}</figcaption></figure>
<figure class="panel">{vocabulary_plot(candidates, references)}<figcaption>{vocabulary}</figcaption></figure>
</div>
"""


def _reliability_section(reliability: Reliability) -> str:
    line = reliability.line()
    caption = (
        f"{line[0].upper()}{line[1:]}. Acceptable: a CIDEr-D of at least {reliability.accepted_cider:.1f}, as three of "
        "four people's captions have."
    )
    return f"""<h2>Confidence</h2>
<div class="plots">
<figure class="panel">{reliability_plot(reliability)}<figcaption>{caption}</figcaption></figure>
</div>
"""


def _mean_length(sentences: Sequence[Words]) -> float:
    return sum(map(len, sentences)) / len(sentences)


def _picture_section(heading: str, explanation: str, rows: Iterable[ReportRow]) -> str:
    return f"""<h2>{heading}</h2>
<p class="muted">{explanation}</p>
<ul class="pictures">
{"".join(map(_picture, rows))}</ul>
"""


def _picture(row: ReportRow) -> str:
    return f"""<li class="panel">
{_thumbnail(row)}
<p class="candidate">{escape(row.candidate) or "(no caption)"}</p>
<p class="from muted"><strong>CIDEr-D {row.cider:.1f}, confidence {row.confidence:.0%}</strong>{escape(row.id)}</p>
<ul class="references">{_items(row.references)}</ul>
</li>
"""


def _thumbnail(row: ReportRow) -> str:
    """Return an img element that contains the picture, described by what a person said about it."""
    try:
        small = thumbnail(decode(row.image, at_least=_THUMBNAIL_PIXELS), _THUMBNAIL_PIXELS)
    except ImageError:
        return '<div class="unreadable">picture cannot be read</div>'
    data = base64.b64encode(encode_jpeg(small)).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(row.references[0])}">'


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)
