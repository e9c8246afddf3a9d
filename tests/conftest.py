"""The command line, run within the tests' own process, and what all tests need."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from captionist.cli import main

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
