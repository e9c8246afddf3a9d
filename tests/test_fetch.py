"""Fetching pictures by URL: what is public, redirects, limits, and no way inside."""

import asyncio
import json
import socket
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
from tests.data.server import Fault, FileServer, serve


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


class _OneAddress(PublicOnlyBackend):
    """Takes 127.0.0.1 for the whole internet, and every other address for the inside."""

    def allows(self, address: str) -> bool:
        return address == "127.0.0.1"


@pytest.fixture
def elsewhere() -> Iterator[FileServer]:
    """A server on the internet, as far as `_OneAddress` is concerned."""
    with serve({"/picture": b"a picture", "/large": bytes(2_000_000)}) as running:
        yield running


def fetch(url: str, hold_more: Callable[[int], None] = lambda _: None, timeout: float = 30) -> bytes:
    async def run() -> bytes:
        fetcher = Fetcher(1_000_000, timeout, _OneAddress())
        try:
            return await fetcher.fetch(url, hold_more)
        finally:
            await fetcher.aclose()

    return asyncio.run(run())


def test_a_public_url_is_fetched_and_a_few_redirects_are_followed(elsewhere: FileServer) -> None:
    url = f"{elsewhere.address}/picture"
    assert fetch(url) == b"a picture"
    elsewhere.faults["/picture"] = [Fault(location=url), *[Fault(location="/picture")] * 2]
    assert fetch(url) == b"a picture"


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(location=location) for location in (
            "http://127.0.0.2/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://localhost/", "http://0x7f.2/",
            "http://2130706434/", "http://169.254.169.254/latest/meta-data/", "//127.0.0.2/picture",
            "file:///etc/passwd", "ftp://127.0.0.1/", "http://[", "http://a:b@c/", "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/", "/picture", "/nothing",
        )),
        Fault(status=404),
        Fault(hang_after=5),
    ],
    ids=lambda fault: fault.location or str(fault.status or "silence"),
)  # fmt: skip
def test_no_redirect_leads_inside_and_nothing_takes_forever(elsewhere: FileServer, fault: Fault) -> None:
    elsewhere.faults["/picture"] = [fault] * 9
    with pytest.raises(ImageFetchError):
        fetch(f"{elsewhere.address}/picture", timeout=0.5 if fault.hang_after else 30)


def test_what_is_fetched_is_bounded_and_counted(elsewhere: FileServer) -> None:
    for chunked in (False, True):
        elsewhere.faults["/large"] = [Fault(chunked=chunked)]
        with pytest.raises(ImageTooLargeError):
            fetch(f"{elsewhere.address}/large")
    counted: list[int] = []
    fetch(f"{elsewhere.address}/picture", counted.append)
    assert sum(counted) == len(b"a picture")

    def full(_: int) -> None:
        raise Problem("overloaded", "No room.")

    with pytest.raises(Problem) as raised:
        fetch(f"{elsewhere.address}/picture", full)
    assert raised.value.name == "overloaded"


@pytest.mark.parametrize(
    ("answers", "allowed"),
    [(["127.0.0.1"], True), (["127.0.0.1", "10.0.0.1"], False), (["10.0.0.1", "127.0.0.1"], False), ([], False)],
)
def test_a_name_is_resolved_once_and_all_of_its_addresses_are_judged(
    elsewhere: FileServer, monkeypatch: pytest.MonkeyPatch, answers: list[str], allowed: bool
) -> None:
    asked: list[str] = []

    async def getaddrinfo(_: object, host: str, port: int, **__: object) -> list[Any]:
        asked.append(host)
        # The second lookup gets an address inside.
        found = answers if len(asked) == 1 else ["::1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    url = f"{elsewhere.address.replace('127.0.0.1', 'pictures.test')}/picture"
    if allowed:
        assert fetch(url) == b"a picture"
    else:
        with pytest.raises(ImageFetchError, match=r"pictures\.test"):
            fetch(url)
    assert asked == ["pictures.test"]


def test_fetches_end_with_the_request_that_they_were_for(elsewhere: FileServer) -> None:
    """One of its pictures is no base64, which ends the request while the others are on their way."""
    elsewhere.faults["/large"] = [Fault(hang_after=5)] * 15
    sent = {"pictures": [{"url": f"{elsewhere.address}/large"}] * 15 + [{"data": "%"}]}
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
