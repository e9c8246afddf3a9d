"""A captioner scored on a small corpus."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from captionist.captioner import Captioner
from captionist.data import Example, open_corpus
from captionist.errors import ScoreError
from captionist.evaluation.compare import compare
from captionist.evaluation.evaluate import evaluate
from captionist.evaluation.report import write_report
from captionist.evaluation.scores import score_captions
from tests.data.tars import DOG, EXAMPLES, RIVER, write_tar
from tests.pictures import write_png
from tests.tiny_bundle import SENTENCES

pytestmark = pytest.mark.usefixtures("no_java")


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """Five pictures, one of which cannot be read."""
    pictures = [write_png(tmp_path / f"{seed}.png", seed) for seed in range(5)]
    pictures[2].write_bytes(b"not a picture")
    return [Example(path.name, path, tuple(SENTENCES), "dev") for path in pictures]


def test_scores_are_those_of_the_captions(captioner: Captioner, examples: list[Example]) -> None:
    steps: list[int] = []
    evaluation = evaluate(examples, captioner, lambda: steps.append(1), num_beams=1)
    assert len(steps) == 5
    good = [example for example in examples if example.id != "2.png"]
    captions = {example.id: captioner.caption(example.image, num_beams=1).text for example in good}
    assert {row.id: row.candidate for row in evaluation.rows} == captions
    assert evaluation.scores == score_captions({e.id: e.references for e in good}, captions)
    assert len(evaluation.failures) == 1
    assert "2.png" in evaluation.failures[0]


def test_an_id_of_two_pictures_is_refused(captioner: Captioner, examples: list[Example]) -> None:
    """Else one would be scored with the other's caption."""
    twice = [*examples, replace(examples[0], image=examples[1].image)]
    with pytest.raises(ScoreError, match=r"'0\.png' is the id of several examples"):
        evaluate(twice, captioner)
    with pytest.raises(ScoreError, match=r"'0\.png' is the id of several examples"):
        compare(twice, captioner, captioner)


def test_pictures_in_shards_are_scored_and_shown(captioner: Captioner, tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "corpus" / "dev-0.tar",
        *((f"{name}.txt", "\n".join(SENTENCES)) for name in ("dog", "river", "text")),
        *(("dog.jpg", DOG), ("river.jpg", RIVER), ("text.jpg", "not a picture")),
    )
    examples = open_corpus(shard.parent).split("dev")
    evaluation = evaluate(examples, captioner, num_beams=1)
    written = {row.id: row.candidate for row in evaluation.rows}
    files = {f"dev-0.tar/{name}.jpg": EXAMPLES / f"{name}.jpg" for name in ("dog", "river")}
    assert written == {picture: captioner.caption(file, num_beams=1).text for picture, file in files.items()}
    assert [failure.split(":")[0] for failure in evaluation.failures] == [f"{shard}/text.jpg"]
    page = tmp_path / "page.html"
    write_report(page, "shards", evaluation.scores, evaluation.rows)
    assert "data:image/jpeg;base64," in page.read_text(encoding="utf-8")
    assert "cannot be read" not in page.read_text(encoding="utf-8")


def test_the_json_says_what_was_scored_and_how(captioner: Captioner, examples: list[Example]) -> None:
    content = json.loads(evaluate(examples, captioner, num_beams=1).to_json())
    assert content["model"] == "tiny"
    assert content["search"]["num_beams"] == 1
    assert content["scores"]["pictures"] == len(content["captions"]) == 4
    assert len(content["failures"]) == 1
    assert content["reliability"] is None


def test_no_readable_picture_is_an_error(captioner: Captioner, examples: list[Example]) -> None:
    with pytest.raises(ScoreError, match=r"no picture to evaluate; the first error is: .*2\.png"):
        evaluate(examples[2:3], captioner)
    with pytest.raises(ScoreError, match="no picture to"):
        evaluate([], captioner)
