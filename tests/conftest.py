"""The command line, run within the tests' own process, and what all tests need."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from captionist.cli import main

if TYPE_CHECKING:
    from captionist import Captioner

# A job in the background ignores Ctrl-C, and so would every process that it starts, those that tests interrupt, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Outcome(int(left.value.code or 0), out, err)

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that compares pictures with sentences, too."""
    from tests.tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", aligned=True)


@pytest.fixture(scope="session")
def unaligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that only captions; its captions are those of `model`."""
    from tests.tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def captioner(unaligned: Path) -> "Captioner":
    from captionist import Captioner

    return Captioner(unaligned, threads=1)


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start and has tests of its own; its absence is a note among the scores."""
    monkeypatch.setenv("PATH", "")
