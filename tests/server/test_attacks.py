"""What an adversary would try: to reach inside through us, to be somebody else, to wear us out, to race us."""

import asyncio
import json
import random
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from captionist.captions import Caption
from captionist.errors import NotAnImageError, SettingsError
from captionist.inference.search import SearchOptions
from captionist.server.batching import OverloadedError
from captionist.server.caption_ids import CaptionIds, CaptionRecord
from captionist.server.inputs import parse_json
from captionist.server.problems import Problem
from captionist.server.schemas import CaptionRequest
from captionist.server.settings import ApiKey, Settings, read_secret
from tests.server.conftest import Serve, caption_id
from tests.server.hostile_http import request
from tests.server.serving import PATIENCE, Running, running
from tests.server.test_batching import start

JPEG = {"Content-Type": "image/jpeg"}

# --- Being somebody else --------------------------------------------------------------------------------------------


def test_no_change_to_a_caption_id_goes_unnoticed() -> None:
    ids = CaptionIds("s" * 32)
    genuine = ids.make(CaptionRecord("model", "1", "A dog runs.", -3.5, 0.6, "0" * 64, "nonce"))
    assert ids.read(genuine)
    alphabet = "ABab01-_."
    for at in range(len(genuine)):
        for letter in alphabet:
            forged = genuine[:at] + letter + genuine[at + 1 :]
            # The last letter holds two bits that mean nothing.
            assert forged == genuine or at == len(genuine) - 1 or ids.read(forged) is None
        assert ids.read(genuine[:at]) is None
    assert CaptionIds("t" * 32).read(genuine) is None


def test_a_secret_that_is_too_short_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("short")
    (directory / "secret").touch()
    with pytest.raises(SettingsError, match="CAPTIONIST_SECRET"):
        read_secret(Settings(data_dir=directory))


def test_a_key_beyond_ascii_is_compared_as_it_was_sent(serve: Serve) -> None:
    key = "schlüssel".encode()
    client = serve(api_keys=(ApiKey(name="a", sha256=sha256(key).hexdigest()),))
    assert client.get("/v1/models", headers=[(b"Authorization", b"Bearer " + key)]).status_code == 200
    assert client.get("/v1/models", headers=[(b"Authorization", b"Bearer " + key[:-1])]).status_code == 401


def test_many_at_once_get_no_more_than_their_rate(serve: Serve) -> None:
    client = serve(anonymous_rate="10/minute")
    with ThreadPoolExecutor(16) as clients:
        statuses = list(clients.map(lambda _: client.get("/v1/models").status_code, range(50)))
    assert sorted(statuses) == [200] * 10 + [429] * 40


# --- Races ----------------------------------------------------------------------------------------------------------


class _Hasty:
    """Stands in for the Captioner: every stage takes a little while, some pictures are bad, and some batches fail."""

    def __init__(self) -> None:
        self.random = random.Random(0)

    def prepare(self, picture: bytes, name: str) -> NDArray[np.float32]:
        time.sleep(self.random.uniform(0, 0.004))
        if picture == b"bad":
            raise NotAnImageError(name)
        return np.full((3, 1, 1), int(picture), np.float32)

    def encode(self, pixels: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        time.sleep(self.random.uniform(0, 0.004))
        if self.random.random() < 0.1:
            raise RuntimeError("the engine fails now and then")
        return np.stack(pixels)

    def generate(self, visual_tokens: NDArray[np.float32], _: SearchOptions) -> list[Caption]:
        time.sleep(self.random.uniform(0, 0.004))
        return [Caption(str(int(tokens[0, 0, 0])), -1.0, 0.5, (), ()) for tokens in visual_tokens]

    def batch(self, size: int, encode: float, generate: float) -> None:
        """Of the observer."""


def test_cancelling_in_every_phase_leaves_nothing_behind() -> None:
    model, chance = _Hasty(), random.Random(1)
    batcher = start(model, model, engines=2, max_delay=0.002, max_queue=400, deadline=300)
    complaints: list[dict[str, Any]] = []
    outcomes: dict[str, int] = {}

    async def ask(number: int) -> None:
        options = SearchOptions(num_beams=chance.choice((1, 2)))
        picture = b"bad" if number % 10 == 0 else str(number).encode()
        try:
            with batcher.room(1):
                patience = chance.choice((300, 300, 0.02, 0.001, -1))
                described = await batcher.caption(picture, "a", options, time.monotonic() + patience)
                assert described.caption.text == str(number)
                outcome = "described"
        except (NotAnImageError, TimeoutError, RuntimeError, asyncio.CancelledError, OverloadedError) as error:
            outcome = type(error).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        tasks = []
        for number in range(1, 501):
            tasks.append(asyncio.create_task(ask(number)))
            if chance.random() < 0.5:
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.2), tasks[-1].cancel)
            if number % 25 == 0:
                await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 300)
        assert batcher.admitted == 0
        await asyncio.wait_for(asyncio.to_thread(batcher.close), 60)

    asyncio.run(run(), debug=True)
    assert complaints == []
    assert {"described", "NotAnImageError", "TimeoutError", "RuntimeError"} <= outcomes.keys()
    assert batcher.waiting == batcher._decoding == 0
    assert not batcher.alive


def test_the_same_feedback_sent_fifty_times_at_once_is_stored_once(serve: Serve, dog: bytes) -> None:
    client = serve()
    found = caption_id(client, dog)

    def post(rating: str) -> Any:
        body = {"caption_id": found, "rating": rating}
        return client.post("/v1/feedback", json=body, headers={"Idempotency-Key": "once"})

    with ThreadPoolExecutor(25) as clients:
        answers = list(clients.map(post, ["good"] * 50))
        late = list(clients.map(post, ["bad"] * 10))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert {answer.status_code for answer in late} == {422}
    assert len(client.get("/v1/feedback/export").text.splitlines()) == 1


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


# --- What is held ---------------------------------------------------------------------------------------------------


def test_nothing_is_held_after_whatever_went_wrong(serve: Serve, dog: bytes) -> None:
    client = serve(max_pictures=2, max_inflight_bytes=1_000_000, keep_pictures=True)
    service = client.app.state.service  # type: ignore[attr-defined]
    found = caption_id(client, dog)
    form = {"Content-Type": "multipart/form-data; boundary=X"}
    wrong: list[dict[str, Any]] = [
        {"content": b"x", "headers": JPEG},
        {"content": dog[:3000], "headers": JPEG},
        {"content": bytes(1_000_001), "headers": JPEG},
        {"content": iter([bytes(600_000)] * 3), "headers": JPEG},
        {"content": b"x", "headers": {"Content-Type": "text/plain"}},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"json": {"pictures": [{"data": "%"}]}},
        {"json": {"pictures": [{"url": "http://127.0.0.1/"}]}},
        {"content": b"--X\r\n", "headers": form},
        {"content": b"\0" * 5000, "headers": form},
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


# --- Wearing us out -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that waits a second for what clients send."""
    with running(tmp_path_factory.mktemp("impatient"), body_timeout="1") as started:
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
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", b"408"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x", b"408"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", b"408"),
        (POST.replace(b"png", b"x") + b"Content-Length: 999999999\r\n\r\n", b"x", b"413"),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"x", b"200"),
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
        (b"GET / HTTP/1.1\r\n", b"abcdefgh: 1\r\n" * 8000),
        (b"GET /", b"a" * 50_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"abcdefgh: 1\r\n" * 8000),
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


def test_what_follows_a_body_is_a_request_of_its_own(impatient: Running) -> None:
    smuggled = b"DELETE /v1/feedback/smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    start = POST + b"Content-Length: 4\r\n\r\nnope"
    answer = impatient.send(start + smuggled)
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answer)] == [415, 404]
    # Inside of a body the very same bytes are nothing but a bad picture.
    inside = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled
    assert re.findall(rb"HTTP/1\.1 (\d+)", impatient.send(inside)) == [b"415"]


def test_json_of_many_parts_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CaptionRequest, "model_validate_json", None)  # parsed, 10 MB of this are gigabytes
    for part in (b"[],", b"{},", b"1,", b'{"a":'):
        with pytest.raises(Problem) as raised:
            parse_json(CaptionRequest, b'{"pictures": [' + part * 1_000_000)
        assert raised.value.name == "bad-request"
