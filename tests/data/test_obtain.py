"""`captionist data download` as its users run it, from a local server with a small Flickr8k."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from captionist.data import open_corpus
from captionist.data.catalogue import SOURCES
from tests.conftest import Run
from tests.data.server import Fault, FileServer, serve
from tests.tools import on_a_terminal

TEXT, PICTURES = "Flickr8k_text.zip", "Flickr8k_Dataset.zip"
BASE = "/jbrownlee/Datasets/releases/download/Flickr8k/"
NAMES = [f"{number}.jpg" for number in range(6)]

# The command with another catalogue: --mirror names the server, and what the small archives must be comes by argument.
SCRIPT = """
import json, sys
from dataclasses import replace
from captionist.data import catalogue
source, known = catalogue.SOURCES["flickr8k"], json.loads(sys.argv[1])
archives = tuple(replace(archive, **known[archive.name]) for archive in source.archives)
catalogue.SOURCES["flickr8k"] = replace(source, archives=archives)
from captionist.cli import main
main(sys.argv[2:])
"""


def pack(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture(scope="module")
def packed() -> dict[str, bytes]:
    """The two archives as they are published, in small: macOS's litter included."""
    text = {
        "Flickr8k.token.txt": "".join(f"{name}#{i}\tA dog runs .\n" for name in NAMES for i in range(5)).encode(),
        "Flickr_8k.trainImages.txt": "\n".join(NAMES[:4]).encode(),
        "Flickr_8k.devImages.txt": NAMES[4].encode(),
        "Flickr_8k.testImages.txt": NAMES[5].encode(),
        "__MACOSX/._Flickr8k.token.txt": b"junk",
    }
    pictures = {f"Flicker8k_Dataset/{name}": os.urandom(100_000) for name in NAMES}
    return {BASE + TEXT: pack(text), BASE + PICTURES: pack(pictures | {"__MACOSX/Flicker8k_Dataset/._0.jpg": b"junk"})}


@pytest.fixture
def server(packed: dict[str, bytes]) -> Iterator[FileServer]:
    with serve(dict(packed)) as running:
        yield running


Download = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def command(request: pytest.FixtureRequest, packed: dict[str, bytes], server: FileServer, tmp_path: Path) -> list[str]:
    """The command; the catalogue has checksums, unless the test's parameter says that none is published."""
    published = getattr(request, "param", True)
    known = {
        Path(path).name: {"checksum": f"sha256:{hashlib.sha256(content).hexdigest()}" if published else None}
        for path, content in packed.items()
    }
    arguments = ["data", "download", "flickr8k", str(tmp_path / "corpus"), "--mirror", server.address]
    return [sys.executable, "-c", SCRIPT, json.dumps(known), *arguments]


@pytest.fixture
def download(command: list[str]) -> Download:
    return lambda: subprocess.run(
        [*command, "--accept-licence"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def check(corpus: Path) -> None:
    """That the reader finds everything, and nothing half done is left."""
    read = open_corpus(corpus)
    assert [len(read.split(split)) for split in ("train", "dev", "test")] == [4, 1, 1]
    assert read.problems == ()
    assert list(corpus.rglob("*.partial")) == []
    assert list(corpus.rglob("__MACOSX")) == []


@pytest.mark.parametrize("command", [True, False], indirect=True)
def test_what_is_downloaded_can_be_read(download: Download, server: FileServer, tmp_path: Path) -> None:
    done = download()
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/corpus\n")
    lines = done.stderr.splitlines()
    assert f"downloading {TEXT}" in lines
    assert f"unpacking {PICTURES}" in lines
    assert lines[-1] == f"see what it holds: captionist data inspect {tmp_path}/corpus"
    check(tmp_path / "corpus")
    again = download()
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert len(server.requests) == 2


def test_a_failed_archive_does_not_stop_the_others(download: Download, server: FileServer, tmp_path: Path) -> None:
    server.faults[BASE + TEXT] = [Fault(status=404)]
    done = download()
    assert (done.returncode, done.stdout) == (1, "")
    assert [line for line in done.stderr.splitlines() if TEXT in line and "HTTP 404" in line]
    assert len(list((tmp_path / "corpus" / "Flicker8k_Dataset").iterdir())) == 6
    assert download().returncode == 0
    check(tmp_path / "corpus")


@pytest.mark.parametrize("command", [True, False], indirect=True)
def test_other_bytes_are_refused(download: Download, server: FileServer, tmp_path: Path) -> None:
    right = server.files[BASE + PICTURES]
    at = right.index(b"PK\x03\x04") + 5000
    server.files[BASE + PICTURES] = right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]
    done = download()
    assert done.returncode == 1
    assert "deleted" in done.stderr
    assert [path.name for path in (tmp_path / "corpus" / "downloads").iterdir() if PICTURES in path.name] == []
    server.files[BASE + PICTURES] = right
    assert download().returncode == 0
    check(tmp_path / "corpus")


@pytest.mark.parametrize("command", [False], indirect=True)
def test_without_a_checksum_the_first_run_s_counts(download: Download, server: FileServer, tmp_path: Path) -> None:
    assert download().returncode == 0
    record = tmp_path / "corpus" / "downloads" / f"{PICTURES}.sha256"
    found = hashlib.sha256(server.files[BASE + PICTURES]).hexdigest()
    assert record.read_text() == f"{found}  {PICTURES}\n"
    (record.parent / PICTURES).unlink()
    server.files[BASE + PICTURES] = pack({"Flicker8k_Dataset/0.jpg": b"another edition"})
    done = download()
    assert done.returncode == 1
    assert f"expected sha256 {found}, got " in done.stderr


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_goes_on(
    download: Download, command: list[str], server: FileServer, tmp_path: Path, sign: signal.Signals
) -> None:
    server.faults[BASE + PICTURES] = [Fault(hang_after=300_000)]
    partial = tmp_path / "corpus" / "downloads" / f"{PICTURES}.partial"
    with subprocess.Popen([*command, "--accept-licence"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (partial.exists() and partial.stat().st_size > 200_000):
            time.sleep(0.01)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert b"run the same command again" in err
        assert b"Traceback" not in err
    have = partial.stat().st_size
    assert have > 200_000
    assert download().returncode == 0
    assert server.ranges(BASE + PICTURES) == [None, f"bytes={have}-"]
    assert len(server.ranges(BASE + TEXT)) == 1
    check(tmp_path / "corpus")


def test_without_a_terminal_the_conditions_are_told_and_nothing_is_done(
    command: list[str], server: FileServer, tmp_path: Path
) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert SOURCES["flickr8k"].licence in done.stderr
    assert "pass --accept-licence" in " ".join(done.stderr.replace("│", " ").split())
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("answer", "code", "requests"), [(b"n\n", 1, 0), (b"y\n", 0, 2)])
def test_on_a_terminal_the_user_is_asked(
    command: list[str], server: FileServer, tmp_path: Path, answer: bytes, code: int, requests: int
) -> None:
    status, screen = on_a_terminal(*command, columns=200, typed=answer)
    assert status == code
    assert b"Do you accept these conditions?" in screen
    assert (f"unpacking {PICTURES}".encode() in screen) == (code == 0)  # the bar
    assert len(server.requests) == requests
    assert (tmp_path / "corpus").exists() == (code == 0)


def test_a_corpus_that_is_not_known_and_a_mirror_that_is_none_are_wrong_usage(run: Run, tmp_path: Path) -> None:
    assert run("data", "download", "flickr9k", tmp_path / "x", "--accept-licence").code == 2
    for mirror in ("mirror.example", "ftp://mirror.example", "http://", "http://a b/", "http://a/?q", "http://a:x/"):
        outcome = run("data", "download", "flickr8k", tmp_path / "x", "--accept-licence", "--mirror", mirror)
        assert outcome.code == 2
        assert "--mirror" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before_anything_is_asked_for(
    run: Run, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    outcome = run("data", "download", "coco2017", tmp_path / "x", "--accept-licence", "--mirror", server.address)
    assert outcome.code == 1
    assert "41,405,354,669 bytes are needed, 5,000,000 are free" in outcome.err
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file")
    outcome = run("data", "download", "flickr8k", tmp_path / "x", "--accept-licence", "--mirror", "http://127.0.0.1:9")
    assert outcome.code == 1
    assert outcome.err.startswith("captionist: ")
    assert outcome.err.count("\n") == 1


def test_of_flickr30k_the_captions_come_and_the_rest_is_told(
    run: Run, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = pack({"dataset_flickr30k.json": b"{}", "dataset_coco.json": b"{}", "dataset_flickr8k.json": b"{}"})
    source = SOURCES["flickr30k"]
    checksum = f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
    small = replace(source, archives=(replace(source.archives[0], checksum=checksum),))
    monkeypatch.setitem(SOURCES, "flickr30k", small)
    server.files["/people/karpathy/deepimagesent/caption_datasets.zip"] = content
    outcome = run("data", "download", "flickr30k", tmp_path / "x", "--accept-licence", "--mirror", server.address)
    assert outcome.code == 0
    assert "https://forms.illinois.edu/sec/229675" in outcome.err
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["dataset_flickr30k.json", "downloads"]
