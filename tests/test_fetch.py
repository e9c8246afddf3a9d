"""Fetching pictures by URL: what is public, redirects, limits, and no way inside."""

import asyncio
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Request

from captionist.errors import ImageFetchError, ImageTooLargeError
from captionist.fetch import Fetcher, PublicOnlyBackend, is_public
from captionist.server.bodies import BodyReader
from captionist.server.inputs import read_pictures
from captionist.server.problems import Problem
from captionist.server.settings import Settings

JPEG = {"Content-Type": "image/jpeg"}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "198.18.0.1", "192.0.0.170", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
        "fe80::1%lo", "fc00::1", "fd00:ec2::254", "fec0::1", "ff0e::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::7f00:1", "2002:7f00:1::",
        "2001:0:7f00:1::", "2001:db8::1", "100::1",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_addresses_outside_are_public(address: str) -> None:
    assert is_public(address)


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """A server on the internet, as far as `_OneAddress` is concerned; some of its answers are traps."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.answer(302, b"", Location=rest)
        elif kind == "again":
            self.answer(307, b"", Location=f"/again/{int(rest) - 1}" if rest != "0" else "/picture")
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(10_000))
                    time.sleep(0.2 if rest == "slow" else 0)
            except OSError:
                self.close_connection = True
        elif kind == "picture":
            self.answer(200, b"a picture")
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _OneAddress(PublicOnlyBackend):
    """Takes 127.0.0.1 for the whole internet, and every other address for the inside."""

    def allows(self, address: str) -> bool:
        return address == "127.0.0.1"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(url: str, hold_more: Callable[[int], None] = lambda _: None) -> bytes:
    async def run() -> bytes:
        fetcher = Fetcher(1_000_000, 0.5 if url.endswith("/slow") else 30, _OneAddress())
        try:
            return await fetcher.fetch(url, hold_more)
        finally:
            await fetcher.aclose()

    return asyncio.run(run())


def test_a_public_url_is_fetched_and_a_few_redirects_are_followed(elsewhere: str) -> None:
    assert fetch(f"{elsewhere}/picture") == b"a picture"
    assert fetch(f"{elsewhere}/to/{elsewhere}/picture") == b"a picture"
    assert fetch(f"{elsewhere}/again/2") == b"a picture"


@pytest.mark.parametrize(
    "way",
    [
        "/to/http://127.0.0.2/", "/to/http://[::1]/", "/to/http://[::ffff:127.0.0.1]/", "/to/http://localhost/",
        "/to/http://0x7f.2/", "/to/http://2130706434/", "/to/http://169.254.169.254/latest/meta-data/",
        "/to///127.0.0.2/picture", "/to/file:///etc/passwd", "/to/ftp://127.0.0.1/", "/to/http://[", "/to/http://a:b@c/",
        "/to/http://127.0.0.1:0/", "/to/http://127.0.0.1:99999/", "/again/9", "/nothing", "/endless/slow",
    ],
)  # fmt: skip
def test_no_redirect_leads_inside_and_nothing_takes_forever(elsewhere: str, way: str) -> None:
    with pytest.raises(ImageFetchError):
        fetch(elsewhere + way)


def test_what_is_fetched_is_bounded_and_counted(elsewhere: str) -> None:
    with pytest.raises(ImageTooLargeError):
        fetch(f"{elsewhere}/endless")
    counted: list[int] = []
    fetch(f"{elsewhere}/picture", counted.append)
    assert sum(counted) == len(b"a picture")

    def full(_: int) -> None:
        raise Problem("overloaded", "No room.")

    with pytest.raises(Problem) as raised:
        fetch(f"{elsewhere}/picture", full)
    assert raised.value.name == "overloaded"


@pytest.mark.parametrize(
    ("answers", "allowed"),
    [(["127.0.0.1"], True), (["127.0.0.1", "10.0.0.1"], False), (["10.0.0.1", "127.0.0.1"], False), ([], False)],
)
def test_a_name_is_resolved_once_and_all_of_its_addresses_are_judged(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch, answers: list[str], allowed: bool
) -> None:
    asked: list[str] = []

    async def getaddrinfo(_: object, host: str, port: int, **__: object) -> list[Any]:
        asked.append(host)
        # Whoever asks a second time is told an address inside.
        found = answers if len(asked) == 1 else ["::1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    url = f"{elsewhere.replace('127.0.0.1', 'pictures.test')}/picture"
    if allowed:
        assert fetch(url) == b"a picture"
    else:
        with pytest.raises(ImageFetchError, match=r"pictures\.test"):
            fetch(url)
    assert asked == ["pictures.test"]


def test_fetches_end_with_the_request_that_they_were_for(elsewhere: str) -> None:
    """One of its pictures is no base64, which ends the request while the others are on their way."""
    sent = {"pictures": [{"url": f"{elsewhere}/endless/slow"}] * 15 + [{"data": "%"}]}
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")], "query_string": b""}

    async def run() -> None:
        fetcher = Fetcher(1_000_000, 30, _OneAddress())
        reader = BodyReader(10_000_000, 10_000_000, 30, fetcher)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(sent).encode(), "more_body": False}

        request = Request(scope, receive)
        with pytest.raises(Problem, match="base64"), reader.body(request) as body:
            await read_pictures(request, body, Settings())
        assert reader.held == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await fetcher.aclose()

    asyncio.run(run())
