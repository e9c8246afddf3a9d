"""Transfers over a real connection to a server that does everything wrong that servers do."""

import hashlib
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from captionist.data.download import fetch
from captionist.errors import DataError
from tests.data.server import Fault, FileServer, serve

CONTENT = random.Random(0).randbytes(600_000)
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


def get(
    server: FileServer, target: Path, *, size: int | None = None, checksum: str | None = SHA256, timeout: float = 30
) -> None:
    fetch(server.address + PATH, target, size=size, checksum=checksum, pause=0, timeout=timeout)


def is_whole(target: Path) -> bool:
    return target.read_bytes() == CONTENT and not partial(target).exists()


@pytest.mark.parametrize("checksum", [SHA256, MD5, None])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_file_is_brought(server: FileServer, target: Path, size: int | None, checksum: str | None) -> None:
    get(server, target, size=size, checksum=checksum)
    assert is_whole(target)
    assert server.requests == [(PATH, None)]


def test_progress_goes_up_to_the_length_and_then_through_the_check(server: FileServer, target: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    fetch(server.address + PATH, target, size=len(CONTENT), checksum=SHA256, report=lambda *step: steps.append(step))
    loading = [(done, total) for step, done, total in steps if step == "downloading"]
    assert loading[0] == (0, len(CONTENT))
    assert loading == sorted(loading)
    assert loading[-1] == (len(CONTENT), len(CONTENT))
    assert steps[-1] == ("checking", len(CONTENT), len(CONTENT))


def test_a_broken_connection_is_continued_where_it_broke(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(stop_after=200_000), Fault(stop_after=100_000)]
    get(server, target)
    assert is_whole(target)
    assert server.ranges(PATH) == [None, "bytes=200000-", "bytes=300000-"]


def test_another_run_continues_what_the_last_one_left(server: FileServer, target: Path) -> None:
    partial(target).write_bytes(CONTENT[:123_456])
    get(server, target)
    assert is_whole(target)
    assert server.ranges(PATH) == ["bytes=123456-"]


@pytest.mark.parametrize(("size", "asked"), [(len(CONTENT), []), (None, [f"bytes={len(CONTENT)}-"])])
def test_a_partial_file_that_is_whole_only_gets_its_name(
    server: FileServer, target: Path, size: int | None, asked: list[str]
) -> None:
    partial(target).write_bytes(CONTENT)
    get(server, target, size=size)
    assert is_whole(target)
    assert server.ranges(PATH) == asked


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_partial_file_that_is_too_long_is_begun_anew(server: FileServer, target: Path, size: int | None) -> None:
    partial(target).write_bytes(bytes(len(CONTENT) + 1))
    get(server, target, size=size)
    assert is_whole(target)


def test_a_server_that_ignores_ranges_begins_anew(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(stop_after=200_000), Fault(ignore_range=True)]
    get(server, target)
    assert is_whole(target)
    assert server.ranges(PATH) == [None, "bytes=200000-"]


def test_a_server_that_sends_another_part_is_not_believed(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(stop_after=200_000), Fault(shift_range=10)]
    get(server, target)
    assert is_whole(target)
    assert server.ranges(PATH) == [None, "bytes=200000-", None]


def test_chunks_without_a_length_are_brought_and_missed(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(chunked=True, stop_after=200_000), Fault(chunked=True)]
    get(server, target)
    assert is_whole(target)
    assert server.ranges(PATH) == [None, "bytes=200000-"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(server: FileServer, target: Path, status: int) -> None:
    server.faults[PATH] = [Fault(status=status)] * 3
    get(server, target)
    assert is_whole(target)
    assert len(server.requests) == 4


def test_a_server_that_stays_busy_is_given_up_and_what_came_is_kept(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(stop_after=1000), *[Fault(status=503)] * 20]
    with pytest.raises(DataError, match=r"given up after 5 .*HTTP 503.* go on from 1,000 bytes"):
        get(server, target)
    assert len(server.requests) == 6  # the first brought something
    assert partial(target).read_bytes() == CONTENT[:1000]
    assert not target.exists()


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_not_there_is_not_asked_for_again(server: FileServer, target: Path, status: int) -> None:
    server.faults[PATH] = [Fault(status=status)]
    with pytest.raises(DataError, match=f"HTTP {status}.*--mirror"):
        get(server, target)
    assert len(server.requests) == 1


def test_redirects_are_followed_and_keep_the_range(server: FileServer, target: Path) -> None:
    server.files["/elsewhere"] = CONTENT
    server.faults[PATH] = [Fault(location="/elsewhere")] * 2
    server.faults["/elsewhere"] = [Fault(stop_after=200_000)]
    get(server, target)
    assert is_whole(target)
    assert server.ranges("/elsewhere") == [None, "bytes=200000-"]


def test_redirects_that_go_round_are_an_error(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(location=PATH)] * 50
    with pytest.raises(DataError, match="HTTP 302"):
        get(server, target)


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_wrong_bytes_are_deleted_and_both_digests_are_told(server: FileServer, target: Path, checksum: str) -> None:
    server.files[PATH] = wrong = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    algorithm, _, digest = checksum.partition(":")
    found = hashlib.new(algorithm, wrong).hexdigest()
    with pytest.raises(DataError, match=f"expected {algorithm} {digest}, got {found}"):
        get(server, target, checksum=checksum)
    assert list(target.parent.iterdir()) == []


def test_a_partial_file_of_other_bytes_is_found_out(server: FileServer, target: Path) -> None:
    partial(target).write_bytes(bytes(1000))
    with pytest.raises(DataError, match="wrong bytes"):
        get(server, target)
    get(server, target)
    assert is_whole(target)


@pytest.mark.parametrize("claim", [-1000, 1000])
def test_a_length_that_is_not_the_published_one_is_refused_at_once(
    server: FileServer, target: Path, claim: int
) -> None:
    server.faults[PATH] = [Fault(claim=claim)]
    with pytest.raises(DataError, match=f"file of {len(CONTENT) + claim:,} bytes, expected {len(CONTENT):,}"):
        get(server, target, size=len(CONTENT))
    assert not target.exists()


def test_a_server_that_promises_more_than_it_sends_is_given_up(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(claim=1000) for _ in range(20)]
    with pytest.raises(DataError, match=r"given up after 5 attempts .*600,000 of 601,000 bytes"):
        get(server, target, checksum=None)
    assert not target.exists()


def test_a_server_that_promises_less_than_it_has_is_found_out_by_the_checksum(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(claim=-1000)]
    with pytest.raises(DataError, match="wrong bytes"):
        get(server, target)
    assert list(target.parent.iterdir()) == []


def test_a_server_that_falls_silent_is_left(server: FileServer, target: Path) -> None:
    server.faults[PATH] = [Fault(hang_after=200_000)]
    get(server, target, timeout=2)
    assert is_whole(target)
    assert server.ranges(PATH) == [None, "bytes=200000-"]


def test_a_server_that_is_not_there_is_given_up(target: Path) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(DataError, match="given up after 3 attempts"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/x.zip", target, attempts=3, pause=0)


def test_a_file_that_is_there_is_checked_and_not_asked_for(server: FileServer, target: Path) -> None:
    target.write_bytes(CONTENT)
    get(server, target, size=len(CONTENT))
    target.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"not the published file \(expected sha256 .*Delete it"):
        get(server, target)
    assert target.read_bytes() == CONTENT[:-1]
    assert server.requests == []


def test_a_disk_that_does_not_take_it_is_an_error(server: FileServer, target: Path) -> None:
    partial(target).symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"cannot be written .*No space left"):
        get(server, target)


def test_a_proxy_of_the_environment_is_used(server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands for the proxy: it is asked with the whole address, of a host that does not exist."""
    address = "http://corpora.invalid/file.zip"
    server.files[address] = CONTENT
    monkeypatch.setenv("http_proxy", server.address)
    fetch(address, target, checksum=SHA256, pause=0)
    assert is_whole(target)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_that_nobody_signed_is_refused_at_once(tmp_path: Path, target: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serve({PATH: CONTENT}, context) as server, pytest.raises(DataError, match="certificate is not trusted"):
        get(server, target)
    assert not target.exists()
