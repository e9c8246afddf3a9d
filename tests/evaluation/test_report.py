import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from captionist.errors import ScoreError
from captionist.evaluation.report import ReportRow, write_report
from captionist.evaluation.retrieval import Recall
from captionist.evaluation.scores import Measure, Scores

MEASURE = Measure(value=20.04, low=18.0, high=22.0)
SCORES = Scores(
    bleu_1=MEASURE,
    bleu_2=MEASURE,
    bleu_3=MEASURE,
    bleu_4=MEASURE,
    meteor=None,
    rouge_l=MEASURE,
    cider=Measure(value=153.2, low=140, high=160),
    pictures=40,
    references_per_picture=2,
    tokenisation="words <&> such",
    distinct_share=0.5,
    mean_words=4.0,
    empty_candidates=1,
    notes=["METEOR is missing."],
)


class Page(HTMLParser):
    """The page's elements, and the text that a reader sees."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def rows(tmp_path: Path) -> list[ReportRow]:
    made = []
    for number in range(40):
        image = tmp_path / f"{number}.png"
        cv2.imwrite(str(image), np.full((300, 600, 3), number * 6, dtype=np.uint8))
        candidate = f"candidate number {number} here"
        made.append(
            ReportRow(f"id-{number}", image, candidate, ["a first reference", "another one"], float(number), 0.5)
        )
    return made


def written(path: Path, title: str, rows: list[ReportRow]) -> tuple[str, Page]:
    write_report(path, title, SCORES, rows)
    source = path.read_text(encoding="utf-8")
    return source, Page(source)


def test_scores_and_pictures_are_on_a_page_that_needs_nothing_else(rows: list[ReportRow], tmp_path: Path) -> None:
    found = Recall(40, 80, {"image_to_text_1": 12.5, "text_to_image_1": 7.5})
    write_report(tmp_path / "report.html", "Tiny model on caf\udce9", SCORES, rows, recall=found)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    for piece in (
        "Tiny model on caf\\udce9",
        "BLEU-4",
        "20.0",
        "18.0 to 22.0",
        "153.2",
        "METEOR is missing.",
        found.line(),
    ):
        assert piece in page.text
    assert len(page.all("svg")) == 2
    best = page.text[page.text.index("Best pictures") : page.text.index("Worst pictures")]
    assert re.findall(r"id-(\d+)", best) == [str(number) for number in range(39, 27, -1)]
    worst = page.text[page.text.index("Worst pictures") :]
    assert re.findall(r"id-(\d+)", worst) == [str(number) for number in range(12)]

    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "script", "iframe", "base"})
    links = [a.get(name) or "#" for _, a in page.elements for name in ("href", "xlink:href")]
    assert all(link.startswith("#") for link in links)
    assert set(re.findall(r"url\((.)|(@import)", source)) <= {("#", "")}
    images = page.all("img")
    assert len(images) == 36
    assert images[0]["alt"] == "a first reference"
    for image in images:
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert pixels.shape == (112, 224, 3)

    assert "prefers-color-scheme: dark" in source
    plots = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert "var(--candidates)" in plots  # which dark mode changes
    assert not re.findall(r"#[0-9a-f]{6}\b", plots)


def test_text_cannot_become_markup(rows: list[ReportRow], tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>\"' onerror=x"
    row = ReportRow(f"id {attack}", rows[0].image, f"candidate {attack}", [f"reference {attack}"], 1.0, 0.5)

    source, page = written(tmp_path / "report.html", f"title {attack}", [row])

    assert "<script" not in source
    assert all("onerror" not in attributes for _, attributes in page.elements)
    for place in ("title", "candidate", "reference", "id"):
        assert f"{place} {attack}" in page.text
    assert page.all("img")[0]["alt"] == f"reference {attack}"


def test_a_picture_that_cannot_be_read_does_not_spoil_the_page(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.write_bytes(b"")
    text.write_text("not a picture")
    bad = [
        ReportRow(path.name, path, "", ["a reference"], 0.0, 0.5) for path in (empty, text, tmp_path / "missing.jpg")
    ]

    _, page = written(tmp_path / "report.html", "Tiny model", bad)

    assert page.text.count("picture cannot be read") == 9
    assert "(no caption)" in page.text


def test_the_same_scores_give_the_same_page(rows: list[ReportRow], tmp_path: Path) -> None:
    first, _ = written(tmp_path / "first.html", "Tiny model", rows)
    second, _ = written(tmp_path / "second.html", "Tiny model", rows[::-1])

    assert first == second


def test_nothing_to_report_and_nowhere_to_write_are_errors(rows: list[ReportRow], tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="nothing to report"):
        write_report(tmp_path / "report.html", "Tiny model", SCORES, [])
    with pytest.raises(ScoreError, match="cannot be written"):
        write_report(tmp_path / "no such folder" / "report.html", "Tiny model", SCORES, rows)
