"""captionist data inspect, evaluate and score, run as their users run them."""

import json
from pathlib import Path

import pytest

from tests.conftest import Run


def test_a_corpus_is_inspected(run: Run, corpus: Path, model: Path) -> None:
    outcome = run("data", "inspect", corpus, "--model", model, "--max-caption-tokens", 9)
    assert outcome.code == 0
    assert "24" in outcome.out


def test_pictures_of_a_corpus_are_opened_when_that_is_asked_for(run: Run, corpus: Path, model: Path) -> None:
    bad = [corpus / "Images" / f"{seed}.jpg" for seed in (1, 4)]
    for path in bad:
        path.write_bytes(b"not a picture")
    closed = run("data", "inspect", corpus, "--model", model)
    assert (closed.code, closed.err) == (0, "")
    assert "The pictures were not opened: --open-pictures finds those that cannot be read." in closed.out
    opened = run("data", "inspect", corpus, "--model", model, "--open-pictures")
    assert opened.code == 1
    assert [line.split(": ")[0] for line in opened.err.splitlines()] == [str(path) for path in bad]
    assert "unreadable_picture 2: the picture cannot be decoded" in opened.out
    assert "not opened" not in opened.out
    for path in corpus.glob("Images/*"):
        path.write_bytes(b"not a picture")
    none = run("data", "inspect", corpus, "--model", model, "--open-pictures")
    assert (none.code, none.out) == (1, "")
    assert "none of its 6 pictures can be read" in none.err


@pytest.mark.usefixtures("no_java")
def test_a_model_is_evaluated_on_a_corpus(run: Run, corpus: Path, model: Path, tmp_path: Path) -> None:
    scores, page = tmp_path / "scores.json", tmp_path / "page.html"
    outcome = run(
        *("evaluate", "--data", corpus, "--split", "train", "--model", model, "--limit", 3, "--num-beams", 1),
        *("--json", scores, "--report", page),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert "BLEU-4" in outcome.out
    content = json.loads(scores.read_text())
    assert (content["scores"]["pictures"], content["search"]["num_beams"]) == (3, 1)
    assert "not comparable with published" in " ".join(outcome.out.split())  # wherever the line breaks
    assert "recall of the model's own alignment among 3 pictures" in outcome.out
    assert "match score" in page.read_text()


def test_what_is_no_clip_is_an_error_before_the_work(run: Run, corpus: Path, model: Path, tmp_path: Path) -> None:
    outcome = run("evaluate", "--data", corpus, "--split", "train", "--model", model, "--clip", tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert "cannot be loaded as a CLIP" in outcome.err


@pytest.mark.usefixtures("no_java")
def test_captions_of_any_origin_are_scored(run: Run, tmp_path: Path) -> None:
    references, candidates, result = (tmp_path / f"{name}.json" for name in ("refs", "cands", "scores"))
    references.write_text(json.dumps({"1": ["a dog runs on grass"], "2": ["two men sit on a bench"]}))
    candidates.write_text(json.dumps({"1": "a dog runs on grass", "2": "two men sit on a bench"}))
    outcome = run("score", "--references", references, "--candidates", candidates, "--json", result)
    assert outcome.code == 0
    assert json.loads(result.read_text())["bleu_4"]["value"] == pytest.approx(100)
