"""Feedback that a service must refuse, or keep as it is."""

import base64
import io
import json
import zlib
from collections.abc import Iterator

from itsdangerous import URLSafeSerializer
from PIL import Image

from tests.server.forms import FORM, disposition, form
from tests.server.hostile_http import SERVED, Hostile, request


def feedback(genuine: str, picture: bytes) -> Iterator[Hostile]:
    def post(fields: dict[str, object], *headers: bytes) -> bytes:
        body = json.dumps({"caption_id": genuine, "rating": "good", **fields}).encode()
        return request("/v1/feedback", body, b"application/json", *headers)

    payload, _, signature = genuine.rpartition(".")
    record = ["captionist-small", "1", "I was never said.", -1.0, 0.9, "0" * 64, "nonce"]
    forged = {
        "empty": "",
        "one character": "x",
        "no signature": payload,
        "an empty signature": payload + ".",
        "only a signature": "." + signature,
        "the first half": genuine[: len(genuine) // 2],
        "the last half": genuine[len(genuine) // 2 :],
        "one character less": genuine[:-1],
        "one character more": genuine + "A",
        "twice": genuine * 2,
        "another case": genuine.swapcase(),
        "a changed payload": genuine[:5] + ("A" if genuine[5] != "A" else "B") + genuine[6:],
        "signed with nothing": str(URLSafeSerializer("", salt="captionist.caption").dumps(record)),
        "signed with another secret": str(URLSafeSerializer("s" * 32, salt="captionist.caption").dumps(record)),
        "a bomb": "." + base64.urlsafe_b64encode(zlib.compress(bytes(2_000_000))).decode()[:3000] + "." + signature,
        "4,097 characters": "a" * 4097,
        "a megabyte": "a" * 1_000_000,
        "a space before": " " + genuine,
        "a line end after": genuine + "\n",
        "a null byte": genuine + "\0",
        "SQL": "' OR 1=1; DROP TABLE feedback; --",
        "a path": "../../captionist.db",
        "emoji": "🐕🐕🐕",
        "a UUID": "123e4567-e89b-12d3-a456-426614174000",
    }
    for name, forgery in forged.items():
        yield Hostile(f"caption id: {name}", post({"caption_id": forgery}))
    fields: dict[str, dict[str, object]] = {
        "a null id": {"caption_id": None},
        "a number for an id": {"caption_id": 1},
        "a list of ids": {"caption_id": [genuine]},
        "a rating of another kind": {"rating": "excellent"},
        "a capital rating": {"rating": "GOOD"},
        "a rating that is a number": {"rating": 1},
        "a null rating": {"rating": None},
        "a correction of 501 characters": {"correction": "a" * 501},
        "a correction of a megabyte": {"correction": "a" * 1_000_000},
        "a correction of spaces": {"correction": " \n\t "},
        "a correction that is a list": {"correction": ["a", "dog"]},
        "a null byte in a correction": {"correction": "a dog\0"},
        "an escape in a comment": {"comment": "\x1b[31mred"},
        "a comment that is a number": {"comment": 1},
        "consent in words": {"consent": "yes"},
        "consent without a picture": {"consent": True},
        "an unknown field": {"admin": True},
        "an id of its own": {"id": "123e4567-e89b-12d3-a456-426614174000"},
    }
    for name, wrong in fields.items():
        yield Hostile(f"feedback: {name}", post(wrong))
    for name, key in {
        "empty": b"",
        "256 characters": b"k" * 256,
        "a space": b"a b",
        "a line end, encoded": b"a%0d%0a b",
        "letters beyond ASCII": "schlüssel".encode(),
        "emoji": "🔑".encode(),
    }.items():
        yield Hostile(f"idempotency key: {name}", post({}, b"Idempotency-Key: " + key))
    surrogate = b'{"caption_id": "' + genuine.encode() + b'", "rating": "bad", "correction": "\\udc00\\ud800"}'
    yield Hostile("feedback: lone surrogates", request("/v1/feedback", surrogate, b"application/json"))
    yield Hostile("feedback: a picture", request("/v1/feedback", picture, b"image/jpeg"))
    for name, text in ODD_TEXTS.items():
        yield Hostile(f"feedback: {name}", post({"rating": "bad", "correction": text, "comment": text}), SERVED)


ODD_TEXTS = {
    "SQL": "'); DROP TABLE feedback; --",
    "emoji": "A dog 🐕 and a family 👨\u200d👩\u200d👧 \U0010ffff",
    "other scripts": "一只狗在跑 كلب يركض कुत्ता",
    "markup": '<img src=x onerror="alert(1)">',
    "a formula": '=HYPERLINK("http://x.test")',
    "a quoted comma": 'a "dog", running',
    "combining marks": "a\u0301" * 200,
}
"""What may well be said of a picture, and must come out of the store as it went in."""


def feedback_forms(genuine: str, picture: bytes) -> Iterator[Hostile]:
    fields = [(disposition(b"caption_id"), genuine.encode()), (disposition(b"rating"), b"good")]
    consent = (disposition(b"consent"), b"true")
    other = io.BytesIO()
    Image.new("RGB", (60, 40)).save(other, "JPEG")
    parts: dict[str, list[tuple[bytes, bytes]]] = {
        "another picture": [*fields, consent, (disposition(b"picture", b"a.jpg"), other.getvalue())],
        "a picture with a byte more": [*fields, consent, (disposition(b"picture", b"a.jpg"), picture + b"\0")],
        "an empty picture": [*fields, consent, (disposition(b"picture", b"a.jpg"), b"")],
        "no picture": [*fields, consent],
        "two pictures": [*fields, consent, *[(disposition(b"picture", b"a.jpg"), picture)] * 2],
        "consent twice": [*fields, consent, consent],
        "two ratings": [*fields, (disposition(b"rating"), b"bad")],
        "no rating": [fields[0]],
        "an id that is a file": [(disposition(b"caption_id", b"a"), genuine.encode()), fields[1]],
        "invalid UTF-8 for an id": [(disposition(b"caption_id"), b"\xff"), fields[1]],
        "a null byte in a comment": [*fields, (disposition(b"comment"), b"a\0b")],
        "a comment of 2 MB": [*fields, (disposition(b"comment"), b"a" * 2_000_000)],
    }
    for name, made in parts.items():
        yield Hostile(f"feedback form: {name}", request("/v1/feedback", form(*made), FORM))
