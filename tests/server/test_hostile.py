"""A service under attack: many hostile requests, each refused, after which it works as before."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest

from captionist.server.problems import MEDIA_TYPE, PROBLEMS
from captionist.server.schemas import ProblemDocument
from tests.server.hostile import (
    KEY,
    LEFT,
    MARK,
    NOT_HTTP,
    ODD_TEXTS,
    SERVED,
    Hostile,
    captions,
    hostile_requests,
    request,
)
from tests.server.serving import Running

ADMIN_KEY = "the-key-of-an-administrator"
MOST_BYTES = 4000
"""Per answer: what was sent does not come back."""
MOST_GROWTH = 250_000_000
"""Bytes by which the process may have grown in the end; a single bomb would take ten times as much."""
LEAK = re.compile(r"Traceback|site-packages|/tmp/|/home/|/usr/|\.py\b|captionist[./]server|at 0x")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With all doors open: it fetches URLs, keeps pictures, and logs everything."""
    keys = [
        {"name": "client", "sha256": sha256(KEY.encode()).hexdigest()},
        {"name": "admin", "sha256": sha256(ADMIN_KEY.encode()).hexdigest(), "admin": True},
    ]
    with Running(
        tmp_path_factory.mktemp("hostile"),
        api_keys=json.dumps(keys),
        fetch_urls="true",
        keep_pictures="true",
        body_timeout="3",
        deadline="120",
        log_level="debug",
    ) as started:
        yield started


@pytest.fixture(scope="module")
def requests(service: Running, dog: bytes) -> list[Hostile]:
    return hostile_requests(caption(service, dog)["id"], dog)


def caption(service: Running, picture: bytes) -> dict[str, Any]:
    """What the service says about a good picture."""
    head, _, body = service.send(captions(picture, b"image/jpeg")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    found: dict[str, Any] = json.loads(body)["pictures"][0]
    return found


def fault(hostile: Hostile, answer: bytes) -> str | None:
    """What is wrong with an answer to a hostile request."""
    if not answer:
        return None if hostile.outcome in (NOT_HTTP, LEFT) else "no answer"
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if hostile.outcome == SERVED:
        return None if status in (200, 201) else f"{status}: {body!r}"
    if not 400 <= status < 500 or (hostile.outcome == NOT_HTTP and status != 400) or hostile.outcome == LEFT:
        return f"answered with {status}: {body[:300]!r}"
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))}
    if hostile.outcome == NOT_HTTP:  # none of our routes has seen it
        return None if headers[b"content-type"] == b"text/plain; charset=utf-8" else f"{headers[b'content-type']!r}"
    if headers[b"content-type"] != MEDIA_TYPE.encode():
        return f"{headers[b'content-type']!r} is no problem document"
    document = ProblemDocument.model_validate_json(body[: int(headers[b"content-length"])], strict=True)
    if PROBLEMS[document.type.removeprefix("urn:captionist:problem:")] != (status, document.title):
        return f"{document.type} with {status} and {document.title!r}"
    if not document.detail or LEAK.search(document.detail):
        return f"the detail {document.detail!r}"
    if len(answer) > MOST_BYTES:
        return f"{len(answer)} bytes came back"
    if b"set-cookie" in headers or b"nosniff" not in headers.get(b"x-content-type-options", b""):
        return f"the headers {headers}"
    if not re.fullmatch(rb"[\w.=:;-]{1,128}|", headers.get(b"x-request-id", b"")):
        return f"the request id {headers[b'x-request-id']!r}"
    return None


def test_every_hostile_request_is_refused_and_the_service_goes_on(
    service: Running, requests: list[Hostile], dog: bytes
) -> None:
    before, expected = service.rss(), caption(service, dog)["captions"]

    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(lambda hostile: service.send(hostile.sent, hostile.outcome == LEFT), requests)
        found = [(hostile.name, fault(hostile, answer)) for hostile, answer in zip(requests, answers, strict=True)]
    assert not (wrong := [f"{name}: {what}" for name, what in found if what]), "\n".join(wrong)

    assert service.process.poll() is None
    assert service.send(request("/health/ready", b"", method=b"GET")).startswith(b"HTTP/1.1 200 ")
    assert caption(service, dog)["captions"] == expected
    assert service.rss() - before < MOST_GROWTH

    lines = [json.loads(line) for line in service.log.read_text().splitlines()]  # each is one JSON object
    assert not [line for line in lines if line["level"] in ("error", "critical") or "exception" in line]
    assert max(len(json.dumps(line)) for line in lines) < 1500
    errors = service.errors.read_text()
    assert not [line for line in errors.splitlines() if not re.match(r"lib\w+ (error|warning): ", line)]  # not Python's
    log = service.log.read_text() + errors
    assert not [secret for secret in (KEY, ADMIN_KEY, "a-wrong-key", MARK.decode(), "stolen=1") if secret in log]


def test_what_was_really_said_is_stored_as_it_was_said(service: Running, requests: list[Hostile]) -> None:
    for hostile in requests:
        if hostile.outcome == SERVED and hostile.name.startswith("feedback"):
            service.send(hostile.sent)
    answer = service.send(request("/v1/feedback/export", b"", method=b"GET", key=ADMIN_KEY))
    assert answer.startswith(b"HTTP/1.1 200 ")
    stored = {text for text in ODD_TEXTS.values() if json.dumps(text).encode() in answer}
    assert stored == set(ODD_TEXTS.values())
    assert b"I was never said." not in answer
