"""The command line, run within the tests' own process, and what all tests need."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from captionist.cli import main
from tests.pictures import write_png

if TYPE_CHECKING:
    from captionist import Captioner

# A background job ignores Ctrl-C, and so would every process that it starts, including those that tests interrupt.
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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures, and one that is hidden."""
    for seed, name in enumerate(["a.png", "b.png", "sub/a.png", ".hidden.png"]):
        write_png(tmp_path / "photos" / name, seed)
    return tmp_path / "photos"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six pictures in Kaggle's layout of Flickr8k."""
    rows = ["image,caption"]
    for seed in range(6):
        write_png(tmp_path / "corpus" / "Images" / f"{seed}.jpg", seed)
        rows += [f"{seed}.jpg,{text}" for text in ("a dog runs", "two children play", "a man rides", "a cat sleeps")]
    (tmp_path / "corpus" / "captions.txt").write_text("\n".join(rows) + "\n")
    return tmp_path / "corpus"
