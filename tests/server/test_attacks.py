"""What an adversary would try: to wear the service out, to make it keep what is gone, to win races."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from typing import Any

import pytest

from captionist.server.caption_ids import CaptionIds, CaptionRecord
from captionist.server.inputs import parse_json
from captionist.server.problems import Problem
from captionist.server.schemas import CaptionRequest
from captionist.server.settings import ApiKey
from tests.server.conftest import Serve, caption_id
from tests.server.hostile import request
from tests.server.serving import PATIENCE, Running

JPEG = {"Content-Type": "image/jpeg"}


def test_a_key_beyond_ascii_is_compared_as_it_was_sent(serve: Serve) -> None:
    key = "schlüssel".encode()
    client = serve(api_keys=(ApiKey(name="a", sha256=sha256(key).hexdigest()),))
    assert client.get("/v1/models", headers=[(b"Authorization", b"Bearer " + key)]).status_code == 200
    assert client.get("/v1/models", headers=[(b"Authorization", b"Bearer " + key[:-1])]).status_code == 401


def test_no_change_to_a_caption_id_goes_unnoticed() -> None:
    ids = CaptionIds("s" * 32)
    genuine = ids.make(CaptionRecord("model", "1", "A dog runs.", -3.5, 0.6, "0" * 64, "nonce"))
    assert ids.read(genuine)
    for at in range(len(genuine)):
        for letter in "ABab01-_.":
            forged = genuine[:at] + letter + genuine[at + 1 :]
            # The last letter holds two bits that mean nothing.
            assert forged == genuine or at == len(genuine) - 1 or ids.read(forged) is None
        assert ids.read(genuine[:at]) is None
    assert CaptionIds("t" * 32).read(genuine) is None


def test_many_at_once_get_no_more_than_their_rate(serve: Serve) -> None:
    client = serve(anonymous_rate="10/minute")
    with ThreadPoolExecutor(16) as clients:
        statuses = list(clients.map(lambda _: client.get("/v1/models").status_code, range(50)))
    assert sorted(statuses) == [200] * 10 + [429] * 40


def test_an_export_among_writes_and_deletions_is_whole(serve: Serve, dog: bytes) -> None:
    client = serve()
    found = caption_id(client, dog)

    def post(_: int) -> str:
        answer = client.post("/v1/feedback", json={"caption_id": found, "rating": "good", "comment": "x" * 400})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def export(_: int) -> list[dict[str, Any]]:
        answer = client.get("/v1/feedback/export")
        assert answer.status_code == 200
        return [json.loads(line) for line in answer.text.splitlines()]

    with ThreadPoolExecutor(12) as clients:
        first = list(clients.map(post, range(60)))  # more than a page of the export
        others = clients.map(post, range(30))
        deleted = clients.map(lambda one: client.delete(f"/v1/feedback/{one}").status_code, first[:30])
        exports = list(clients.map(export, range(5)))
        assert set(deleted) == {204}
        after = set(first[30:]) | set(others)
    for rows in exports:
        ids = [row["id"] for row in rows]
        assert len(ids) == len(set(ids))
        assert set(first[30:]) <= set(ids)
    assert {row["id"] for row in export(0)} == after


def test_nothing_is_held_after_whatever_went_wrong(serve: Serve, dog: bytes) -> None:
    client = serve(max_pictures=2, max_inflight_bytes=1_000_000, keep_pictures=True)
    service = client.app.state.service  # type: ignore[attr-defined]
    found = caption_id(client, dog)
    form = {"Content-Type": "multipart/form-data; boundary=X"}
    wrong: list[dict[str, Any]] = [
        {"content": dog[:3000], "headers": JPEG},
        {"content": bytes(1_000_001), "headers": JPEG},
        {"content": iter([bytes(600_000)] * 3), "headers": JPEG},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"json": {"pictures": [{"data": "%"}]}},
        {"content": b"--X\r\n", "headers": form},
        {"files": [("picture", dog)] * 4},
        {"files": {"picture": dog}, "data": {"num_beams": "99"}},
        {"files": {"picture": dog}, "data": {"caption_id": found, "rating": "good", "consent": "1", "x": "y"}},
    ]
    for path in ("/v1/captions", "/v1/feedback"):
        for arguments in wrong:
            assert 400 <= client.post(path, **arguments).status_code < 500, arguments
            assert service.bodies.held == service.batcher.admitted == 0, (path, arguments)
    assert client.post("/v1/captions", content=dog, headers=JPEG).status_code == 200


@pytest.mark.parametrize("when", ["in the body", "after the body", "silent"])
def test_nothing_is_held_for_a_client_that_is_gone(serve: Serve, dog: bytes, when: str) -> None:
    client = serve(body_timeout=0.5)
    service = client.app.state.service  # type: ignore[attr-defined]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        if not sent_parts:
            if when == "silent":
                await asyncio.sleep(60)
            return {"type": "http.disconnect"}
        return sent_parts.pop(0)

    whole = when == "after the body"
    sent_parts = [{"type": "http.request", "body": dog, "more_body": not whole}]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/captions", "raw_path": b"/v1/captions", "query_string": b"",
        "headers": [(b"content-type", b"image/jpeg")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "scheme": "http", "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip

    assert client.portal
    client.portal.call(client.app, scope, receive, send)
    assert sent[0]["status"] == {"silent": 408}.get(when, 499)
    assert service.bodies.held == service.batcher.admitted == 0


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that waits a second for what clients send."""
    with Running(tmp_path_factory.mktemp("impatient"), body_timeout="1") as started:
        yield started


def drip(service: Running, start: bytes, drop: bytes) -> bytes:
    """Send a start at once and then drop by drop, until the service answers: what it says."""
    with closing(socket.create_connection(("127.0.0.1", service.port), PATIENCE)) as connection:
        connection.settimeout(0.05)
        begun = time.monotonic()
        connection.sendall(start)
        while time.monotonic() - begun < PATIENCE:
            connection.sendall(drop)
            try:
                return connection.recv(65536)
            except TimeoutError:
                pass
    return b""


POST = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("start", "drop", "answer"),
    [
        (POST + b"Content-Length: 100000\r\n\r\n", b"x", b"408"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x", b"408"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", b"408"),
        (POST.replace(b"png", b"x") + b"Content-Length: 999999999\r\n\r\n", b"x", b"413"),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", b"404"),
    ],
)
def test_a_client_that_dawdles_with_its_body_is_answered(
    impatient: Running, start: bytes, drop: bytes, answer: bytes
) -> None:
    assert drip(impatient, start, drop)[9:12] == answer


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET / HTTP/1.1\r\nA: ", b"a" * 100_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ", b"a" * 100_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5;", b"a" * 100_000),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", b"a" * 100_000),
    ],
)
def test_a_flood_before_or_after_a_body_fills_no_memory(impatient: Running, start: bytes, more: bytes) -> None:
    before = impatient.rss()
    with closing(socket.create_connection(("127.0.0.1", impatient.port), PATIENCE)) as connection:
        peak = before
        try:
            connection.sendall(start)
            for _ in range(300):  # 30 MB
                connection.sendall(more)
                peak = max(peak, impatient.rss())
        except ConnectionError:
            pass
    assert peak - before < 10_000_000
    assert impatient.send(request("/health/live", b"", method=b"GET", key="")).startswith(b"HTTP/1.1 200 ")


def test_json_of_many_parts_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CaptionRequest, "model_validate_json", None)  # parsed, 10 MB of this are gigabytes
    for part in (b"[],", b"{},", b"1,", b'{"a":'):
        with pytest.raises(Problem) as raised:
            parse_json(CaptionRequest, b'{"pictures": [' + part * 1_000_000)
        assert raised.value.name == "bad-request"
