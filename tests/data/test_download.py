"""Transfers over a real connection to a server that does everything wrong that servers do."""

import hashlib
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from captionist.data.download import fetch
from captionist.errors import DataError
from tests.data.server import Fault, FileServer, serve

CONTENT = random.Random(0).randbytes(600_000)
SIZE = len(CONTENT)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
PATH = "/some/file.zip"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve({PATH: CONTENT}) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.zip"


def partial(target: Path) -> Path:
    return target.with_name("file.zip.partial")


def get(server: FileServer, target: Path, **options: Any) -> None:
    fetch(server.address + PATH, target, **{"checksum": SHA256, "pause": 0, **options})


def is_whole(target: Path) -> bool:
    return target.read_bytes() == CONTENT and not partial(target).exists()


def test_a_file_is_brought_and_its_progress_told(server: FileServer, target: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    get(server, target, size=SIZE, report=lambda *step: steps.append(step))
    assert is_whole(target)
    assert server.requests == [(PATH, None)]
    loading = [(done, total) for step, done, total in steps if step == "downloading"]
    assert loading == sorted(loading)
    assert (loading[0], loading[-1]) == ((0, SIZE), (SIZE, SIZE))
    assert steps[-1] == ("checking", SIZE, SIZE)


# What the server does, what an earlier run has left, what is known, and the ranges that are requested.
FROM_200K = [None, "bytes=200000-"]
BROUGHT: dict[str, tuple[list[Fault], bytes, dict[str, Any], list[str | None]]] = {
    "nothing is known of it": ([], b"", {"checksum": None}, [None]),
    "its MD5 is known": ([], b"", {"checksum": MD5}, [None]),
    "connections break": (
        [Fault(stop_after=200_000), Fault(stop_after=100_000)], b"", {}, [*FROM_200K, "bytes=300000-"],
    ),
    "another run began": ([], CONTENT[:123_456], {}, ["bytes=123456-"]),
    "another run had it all": ([], CONTENT, {"size": SIZE}, []),
    "another run had it all, of no known length": ([], CONTENT, {}, [f"bytes={SIZE}-"]),
    "another run had too much": ([], bytes(SIZE + 1), {"size": SIZE}, [f"bytes={SIZE + 1}-", None]),
    "ranges are ignored": ([Fault(stop_after=200_000), Fault(ignore_range=True)], b"", {}, FROM_200K),
    "another part is sent": ([Fault(stop_after=200_000), Fault(shift_range=10)], b"", {}, [*FROM_200K, None]),
    "chunks without a length": (
        [Fault(chunked=True, stop_after=200_000), Fault(chunked=True)], b"", {}, FROM_200K,
    ),
    "busy": ([Fault(status=429), Fault(status=500), Fault(status=503)], b"", {}, [None] * 4),
    "silent": ([Fault(hang_after=200_000)], b"", {"timeout": 2}, FROM_200K),
}  # fmt: skip


@pytest.mark.parametrize(("faults", "left", "known", "ranges"), BROUGHT.values(), ids=BROUGHT)
def test_a_file_is_brought_in_spite_of(
    server: FileServer, target: Path, faults: list[Fault], left: bytes, known: dict[str, Any], ranges: list[str | None]
) -> None:
    server.faults[PATH] = faults.copy()
    if left:
        partial(target).write_bytes(left)
    get(server, target, **known)
    assert is_whole(target)
    assert server.ranges(PATH) == ranges


@pytest.mark.parametrize(
    ("faults", "known", "message", "requests"),
    [
        ([Fault(status=404)], {}, "HTTP 404.*--mirror", 1),
        ([Fault(location=PATH)] * 50, {}, "HTTP 302", 5),
        ([Fault(status=416)] * 20, {}, "gave up after 5 .*fewer bytes", 5),
        ([Fault(claim=1000)], {"size": SIZE}, "the server has 601,000 bytes, not 600,000", 1),
        ([Fault(claim=1000)] * 20, {"checksum": None}, r"gave up after 5 .*600,000 of 601,000 bytes", 6),
        ([Fault(claim=-1000)], {}, "wrong bytes", 1),
        ([Fault(stop_after=1000), *[Fault(status=503)] * 20], {}, "after 5 .*HTTP 503.* continue from 1,000 bytes", 6),
    ],
)
def test_a_file_is_not_brought_where(
    server: FileServer, target: Path, faults: list[Fault], known: dict[str, Any], message: str, requests: int
) -> None:
    server.faults[PATH] = faults.copy()
    with pytest.raises(DataError, match=message):
        get(server, target, **known)
    assert len(server.requests) == requests
    assert not target.exists()
    assert not partial(target).exists() or CONTENT.startswith(partial(target).read_bytes())


def test_redirects_are_followed_and_keep_the_range(server: FileServer, target: Path) -> None:
    server.files["/elsewhere"] = CONTENT
    server.faults[PATH] = [Fault(location="/elsewhere")] * 2
    server.faults["/elsewhere"] = [Fault(stop_after=200_000)]
    get(server, target)
    assert is_whole(target)
    assert server.ranges("/elsewhere") == FROM_200K


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_wrong_bytes_are_deleted_and_both_digests_are_told(server: FileServer, target: Path, checksum: str) -> None:
    partial(target).write_bytes(bytes(1000))
    wrong = bytes(1000) + CONTENT[1000:]
    algorithm, _, digest = checksum.partition(":")
    found = hashlib.new(algorithm, wrong).hexdigest()
    with pytest.raises(DataError, match=f"wrong bytes .expected {algorithm} {digest}, got {found}"):
        get(server, target, checksum=checksum)
    assert list(target.parent.iterdir()) == []


def test_a_server_that_is_not_there_is_given_up(target: Path) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(DataError, match="gave up after 3 attempts"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/x.zip", target, attempts=3, pause=0)


def test_a_file_that_is_there_is_checked_and_not_asked_for(server: FileServer, target: Path) -> None:
    target.write_bytes(CONTENT)
    get(server, target, size=SIZE)
    target.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"not the published file \(expected sha256 .*Delete it"):
        get(server, target)
    assert target.read_bytes() == CONTENT[:-1]
    assert server.requests == []


def test_a_disk_that_does_not_take_it_is_an_error(server: FileServer, target: Path) -> None:
    partial(target).symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)\. Make room"):
        get(server, target)
    assert len(server.requests) == 1


def test_a_proxy_of_the_environment_is_used(server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands for the proxy: it is asked with the whole address, of a host that does not exist."""
    address = "http://corpora.invalid/file.zip"
    server.files[address] = CONTENT
    monkeypatch.setenv("http_proxy", server.address)
    fetch(address, target, checksum=SHA256, pause=0)
    assert is_whole(target)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path, target: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serve({PATH: CONTENT}, context) as server, pytest.raises(DataError, match="certificate is not trusted"):
        get(server, target)
    assert not target.exists()
