"""What the tests here send, and what they read of answers."""

import hashlib
import json
import uuid
from typing import Any

from captionist.server.caption_ids import CaptionIds, CaptionRecord
from harness.load import Answer, client
from harness.requests import post

SECRET = "signs the ids of captions that nobody wrote"


async def send(port: int, request: bytes) -> Answer:
    """One request over a connection of its own."""
    async with client(port) as connections:
        return await connections.send(request)


def feedback(comment: str, key: str | None = None) -> bytes:
    """A request that stores feedback on a caption which the service (its secret is SECRET) need not have written."""
    record = CaptionRecord("m", "1", "A cat.", -3.0, 0.5, hashlib.sha256(b"").hexdigest(), uuid.uuid4().hex)
    body = {"caption_id": CaptionIds(SECRET).make(record), "rating": "good", "comment": comment}
    headers = {"Idempotency_Key": key} if key else {}
    return post("/v1/feedback", json.dumps(body).encode(), "application/json", **headers)


def problem(answer: Answer, status: int, name: str) -> dict[str, Any]:
    """The problem document of an answer, which must be of this kind."""
    assert answer.status == status, (answer.head, answer.body)
    document: dict[str, Any] = json.loads(answer.body)
    assert document["type"] == f"urn:captionist:problem:{name}"
    assert answer.header("content-type") == "application/problem+json"
    if status == 503:
        assert int(answer.header("retry-after") or 0) >= 1
    return document


def comments(export: bytes) -> list[str]:
    """The comments in an export of feedback."""
    return [json.loads(line)["comment"] for line in export.splitlines()]
