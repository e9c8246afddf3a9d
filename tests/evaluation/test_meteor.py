import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.meteor.meteor import Meteor

from captionist.evaluation.meteor import MeteorUnavailableError, meteor_scorer
from captionist.evaluation.scores import score_captions
from captionist.evaluation.tokenize import tokenize
from tests.evaluation.samples import CANDIDATES, REFERENCES

WORDS = [[tokenize(text) for text in group] for group in REFERENCES.values()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs java on the PATH")
def test_the_score_of_the_sum_is_pycocoevalcaps_score() -> None:
    # One candidate equals a reference word for word, which METEOR counts differently when adding up; one is empty.
    candidates = [tokenize(text) for text in CANDIDATES.values()]
    candidates[1], candidates[2] = WORDS[1][1], []

    with meteor_scorer(timeout=60) as scorer:
        statistics = scorer.statistics(WORDS, candidates)
        sums = np.array([statistics.sum(axis=0), *statistics])
        total, *each = scorer.scores(sums)
        expected_total, expected_each = Meteor.compute_score(
            scorer._process,
            {number: [" ".join(words) for words in group] for number, group in enumerate(WORDS)},
            {number: [" ".join(words)] for number, words in enumerate(candidates)},
        )

    assert total == pytest.approx(expected_total, abs=1e-12)
    assert each == pytest.approx(expected_each, abs=1e-12)
    assert each[1] == 1.0
    assert each[2] == 0.0


def test_without_java_the_reason_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MeteorUnavailableError, match="no java on the PATH"), meteor_scorer(timeout=5):
        pass


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 30", "echo nonsense; exec sleep 30"])
def test_a_java_that_fails_or_hangs_is_ended(script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    processes = []

    def score() -> None:
        with meteor_scorer(timeout=0.5) as scorer:
            processes.append(scorer._process.meteor_p)
            scorer.statistics(WORDS, [["a"]] * len(WORDS))

    with pytest.raises(MeteorUnavailableError, match="failed or did not end"):
        score()

    assert [process.poll() is None for process in processes] == [False]


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs java on the PATH")
def test_it_is_among_the_scores() -> None:
    scores = score_captions(REFERENCES, CANDIDATES)
    assert scores.meteor is not None
    assert 20 < scores.meteor.low < scores.meteor.value < scores.meteor.high < 100
    assert scores.notes == []
