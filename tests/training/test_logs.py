"""Logs that a killed and resumed run goes on with."""

from pathlib import Path

import cv2
import pytest

from captionist.training.checkpoint import Progress
from captionist.training.logs import RunLog
from tests.training.runs import read_csv


def log_step(log: RunLog, step: int) -> None:
    log.step(step=step, stage="s", epoch=1, loss=5 - step / 10, rate=0.1, gradient_norm=1.0, pictures_per_second=9)


def log_epoch(log: RunLog, step: int) -> None:
    log.epoch(step=step, stage="s", epoch=step // 4, cider=step * 1.5, bleu_4=1.0, distinct=2.0, seconds=0.1)


def steps(run: Path, name: str = "steps.csv") -> list[int]:
    return [int(row["step"]) for row in read_csv(run / name)]


def write(run: Path, upto: int) -> None:
    log = RunLog(run, Progress())
    for step in range(1, upto + 1):
        log_step(log, step)
        if step % 4 == 0:
            log_epoch(log, step)
    log.close()


def test_a_resumed_log_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 10)
    log = RunLog(tmp_path, Progress(epoch=1, step=2, total_steps=6))
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert steps(tmp_path, "epochs.csv") == [4]
    log_step(log, 7)
    log.close()
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("to_validate", "expected"), [(True, [4]), (False, [4, 8])])
def test_an_epoch_that_is_scored_again_is_logged_once(tmp_path: Path, to_validate: bool, expected: list[int]) -> None:
    write(tmp_path, 8)
    RunLog(tmp_path, Progress(epoch=2, total_steps=8, to_validate=to_validate)).close()
    assert steps(tmp_path, "epochs.csv") == expected


@pytest.mark.parametrize("cut", [1, 3, 10])
def test_a_half_written_line_goes(tmp_path: Path, cut: int) -> None:
    write(tmp_path, 10)
    path = tmp_path / "steps.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    RunLog(tmp_path, Progress(total_steps=10)).close()
    assert steps(tmp_path) == list(range(1, 10))


def test_a_log_killed_before_its_first_line_gets_its_header(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").touch()
    write(tmp_path, 2)
    assert steps(tmp_path) == [1, 2]


def test_a_log_of_scores_alone_is_drawn_too(tmp_path: Path) -> None:
    log = RunLog(tmp_path, Progress())
    log_epoch(log, 4)
    log.close()
    assert cv2.imread(str(tmp_path / "loss.png")) is not None
