"""Requests that a service must refuse, as it gets them in practice; made on the spot and always the same.

Hostile pictures are for tests/images, hostile addresses for tests/test_fetch.py; here is a sample of both.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from itsdangerous import URLSafeSerializer

from harness.pictures import png_of_zeros, truncated_jpeg
from tests.server.forms import FORM, disposition, form

REFUSED, NOT_HTTP, LEFT, SERVED = "refused", "not HTTP", "left", "served"
"""A 4xx; a 400 (in plain text, as it is not ours) or the end of the connection; no answer, as the client is gone; odd,
but right: a 2xx.
"""
KEY = "the-key-of-a-client"
MARK = b"bytes-of-a-picture"
"""Contained in many of them; must not be in any log."""
HOST = b"Host: captionist.test\r\n"
END = HOST + b"Connection: close\r\n\r\n"
NOISE = np.random.default_rng(0).bytes(4000)
ODD_TEXTS = {
    "SQL": "'); DROP TABLE feedback; --",
    "emoji": "A dog 🐕 and a family 👨\u200d👩\u200d👧 \U0010ffff",
    "other scripts": "一只狗在跑 كلب يركض कुत्ता",
    "markup": '<img src=x onerror="alert(1)">',
    "combining marks": "a\u0301" * 200,
}
"""What people may well say about a picture, and must come out of the store unchanged."""


@dataclass(frozen=True)
class Hostile:
    """What a client sends over one connection, and what should come of it."""

    name: str
    sent: bytes
    outcome: str = REFUSED


def request(
    path: str, body: bytes, content_type: bytes = b"", *headers: bytes, method: bytes = b"POST", key: str = KEY
) -> bytes:
    """A sound HTTP request around a body that may not be."""
    lines = [
        method + b" " + path.encode() + b" HTTP/1.1",
        HOST.strip(),
        b"Connection: close",
        b"Content-Length: " + str(len(body)).encode(),
        *([b"Content-Type: " + content_type] if content_type else []),
        *([b"Authorization: Bearer " + key.encode()] if key else []),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def captions(body: bytes, content_type: bytes, *headers: bytes, query: str = "") -> bytes:
    return request(f"/v1/captions{query}", body, content_type, *headers)


def hostile_requests(caption_id: str, picture: bytes) -> list[Hostile]:
    """All of them. caption_id: a genuine one; picture: the file that it is about, a JPEG."""
    parts = (
        _pictures(), _forms(picture), _json(), _options(picture), _feedback(caption_id), _consent(caption_id, picture),
        _paths(), _keys(picture), _framing(picture), _not_http(picture),
    )  # fmt: skip
    made = [hostile for part in parts for hostile in part]
    assert len({hostile.name for hostile in made}) == len({hostile.sent for hostile in made}) == len(made)
    return made


def _pictures() -> Iterator[Hostile]:
    for name, data in {
        "cut": truncated_jpeg(),
        "900 megapixels": png_of_zeros(30_000, 30_000),
        "fill bytes": b"\xff\xd8" + b"\xff" * 5_000_000,
        "svg": b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><svg>&f;</svg>',
        "a script": b"GIF89a/*" + MARK + b"*/=alert(1)//;",
        "text": MARK + b" are a letter, not a photograph.\n" * 20,
        "nothing": b"",
        "noise": NOISE,
    }.items():
        yield Hostile(f"picture: {name}", captions(data, b"image/png"))
        part = (disposition(b"picture", b"photo.png") + b"\r\nContent-Type: image/png", data)
        yield Hostile(f"picture in a form: {name}", captions(form(part), FORM))
    for url in ("http://2130706433/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/",
                "http://x.test@127.0.0.1/", "http://[", "", "file:///etc/passwd", f"http://127.0.0.1/{'a' * 3000}",
                "http://127.0.0.1\r\nX: y/", "http://①②⑦.⓪.⓪.①/"):  # fmt: skip
        body = json.dumps({"pictures": [{"url": url}]}).encode()  # the service that these are for fetches URLs
        yield Hostile(f"url: {url[:80]!r}", captions(body, b"application/json"))


def _forms(picture: bytes) -> Iterator[Hostile]:
    good = (disposition(b"picture", b"dog.jpg"), picture)
    bad = (disposition(b"picture", b"dog.jpg"), MARK)
    for name, (body, kind) in {
        "another boundary": (form(good), b"multipart/form-data; boundary=Y"),
        "a charset that is no charset": (form(bad), FORM + b"; charset=undefined"),
        "a charset that escapes": (form((disposition(b"picture", b"\\ud800"), MARK)), FORM + b"; charset=utf_7"),
        "no end to its headers": (b"--X\r\n" + disposition(b"picture", b"a") + b"\r\n", FORM),
        "an empty body": (b"", FORM),
        "5,000 fields": (form(*[(disposition(b"f%d" % n), b"1") for n in range(5000)]), FORM),
        "5,000 files": (form(*[(disposition(b"picture", b"a"), b"1") for _ in range(5000)]), FORM),
        "17 pictures": (form(*[good] * 17), FORM),
        "a header of 100,000 bytes": (form((disposition(b"picture", b"a" * 100_000), picture)), FORM),
        "a part without disposition": (form((b"A: b", picture)), FORM),
        "a null byte in a header": (form((disposition(b"picture", b"a\0b"), MARK)), FORM),
        "a file in a field of 3,000 characters": (form((disposition(b"u" * 3000, b"a.jpg"), picture)), FORM),
        "a field of 2 MB": (form((disposition(b"num_beams"), b"1" * 2_000_000)), FORM),
        "a field twice": (form(good, *[(disposition(b"num_beams"), b"1")] * 2), FORM),
        "an unknown field in emoji": (form(good, (disposition("🐕".encode()), b"1")), FORM),
        "invalid UTF-8": (form(good, (disposition(b"num_beams"), b"\xff\xfe")), FORM),
    }.items():
        yield Hostile(f"form: {name}", captions(body, kind))
    for name, file in {
        "a line end": b"a\r\nSet-Cookie: stolen=1\r\nX: .jpg",
        "3,000 characters": b"a" * 3000,
        "control characters": b"\x1b[31mred\x07\x08",
        "text that turns around": "\u202egpj.exe".encode(),
        "invalid UTF-8": b"\xff\xfe\xfd",
    }.items():
        yield Hostile(f"file name: {name}", captions(form((disposition(b"picture", file), MARK)), FORM))
    emoji = (disposition(b"picture", "Hündchen 🐕.jpg".encode()), picture)
    yield Hostile("file name: emoji", captions(form(emoji), FORM), SERVED)


def _json() -> Iterator[Hostile]:
    for name, body in {
        "no body": b"",
        "null": b"null",
        "a list": b"[]",
        "100,000 brackets": b"[" * 100_000,
        "300,000 fields": b"{" + b",".join(b'"%x":1' % n for n in range(300_000)) + b"}",
        "9,000 wrong pictures": json.dumps({"pictures": [1] * 9000}).encode(),
        "a field of 1 MB": b'{"' + b"a" * 1_000_000 + b'": 1}',
        "a picture with both": b'{"pictures": [{"data": "AAAA", "url": "http://x.test/"}]}',
        "17 pictures": json.dumps({"pictures": [{"data": "AAAA"}] * 17}).encode(),
        "an unknown field": b'{"pictures": [{"data": "AAAA"}], "__proto__": {"admin": true}}',
        "invalid UTF-8 in a name": b'{"\xc0\xaf": 1}',
        "UTF-16": '{"pictures": []}'.encode("utf-16"),
        "a lone surrogate": b'{"pictures": [{"data": "\\ud800"}]}',
        "only padding": b'{"pictures": [{"data": "===="}]}',
        "rubbish after the end": b'{"pictures": []} {"pictures": []}',
        "noise": NOISE,
    }.items():
        yield Hostile(f"json: {name}", captions(body, b"application/json"))


def _options(picture: bytes) -> Iterator[Hostile]:
    """The picture is a good one: it is the option, or the type, that is refused."""
    for query in (
        "num_captions=51", "num_captions=", "num_captions=99999999999999999999999999", "num_captions=1e400",
        "num_captions=3&num_captions=4", "num_beams=NaN", "num_beams=%00", "num_beams=%ff", "max_words=1001",
        "explain=maybe", "min_confidence=nan", "min_confidence=-Infinity", "num_captions[]=1",
        "&".join(f"x{n}=1" for n in range(2000)), "y" * 30_000,
    ):  # fmt: skip
        yield Hostile(f"query: {query[:60]}", captions(picture, b"image/jpeg", query=f"?{query}"))
    data = base64.b64encode(picture)
    for option in (b'"num_captions": true', b'"num_captions": 1e999', b'"num_captions": ' + b"9" * 5000,
                   b'"num_beams": {"$gt": 0}', b'"explain": null', b'"min_confidence": NaN'):  # fmt: skip
        body = b'{"pictures": [{"data": "' + data + b'"}], ' + option + b"}"
        yield Hostile(f"option: {option[:60].decode()}", captions(body, b"application/json"))
    for kind in (b"text/html", b"multipart/mixed; boundary=X", b"*/*", b"image\\png", b"\xff\xfe", b"a" * 20_000):
        yield Hostile(f"content type: {kind[:40]!r}", captions(picture, kind))


def _feedback(genuine: str) -> Iterator[Hostile]:
    def post(fields: dict[str, object], *headers: bytes) -> bytes:
        body = json.dumps({"caption_id": genuine, "rating": "good", **fields}).encode()
        return request("/v1/feedback", body, b"application/json", *headers)

    payload, _, signature = genuine.rpartition(".")
    record = ["captionist-small", "1", "I was never said.", -1.0, 0.9, "0" * 64, "nonce"]
    for name, forged in {
        "no signature": payload,
        "only a signature": "." + signature,
        "signed with nothing": str(URLSafeSerializer("", salt="captionist.caption").dumps(record)),
        "a bomb": "." + base64.urlsafe_b64encode(zlib.compress(bytes(2_000_000))).decode()[:3000] + "." + signature,
        "a megabyte": "a" * 1_000_000,
        "a null byte": genuine + "\0",
        "SQL": "' OR 1=1; DROP TABLE feedback; --",
        "emoji": "🐕🐕🐕",
    }.items():
        yield Hostile(f"caption id: {name}", post({"caption_id": forged}))
    wrong: dict[str, dict[str, object]] = {
        "a list of ids": {"caption_id": [genuine]},
        "a capital rating": {"rating": "GOOD"},
        "a correction of a megabyte": {"correction": "a" * 1_000_000},
        "a null byte in a correction": {"correction": "a dog\0"},
        "an escape in a comment": {"comment": "\x1b[31mred"},
        "an id of its own": {"id": "123e4567-e89b-12d3-a456-426614174000"},
    }
    for name, fields in wrong.items():
        yield Hostile(f"feedback: {name}", post(fields))
    for key in (b"", b"k" * 256, b"a b", "🔑".encode()):
        yield Hostile(f"idempotency key: {key[:9]!r}", post({}, b"Idempotency-Key: " + key))
    surrogate = b'{"caption_id": "' + genuine.encode() + b'", "rating": "bad", "correction": "\\udc00\\ud800"}'
    yield Hostile("feedback: lone surrogates", request("/v1/feedback", surrogate, b"application/json"))
    for name, text in ODD_TEXTS.items():
        yield Hostile(f"feedback: {name}", post({"rating": "bad", "correction": text, "comment": text}), SERVED)


def _consent(genuine: str, picture: bytes) -> Iterator[Hostile]:
    """The service that these are for keeps pictures."""
    fields = [(disposition(b"caption_id"), genuine.encode()), (disposition(b"rating"), b"good")]
    consent, file = (disposition(b"consent"), b"true"), disposition(b"picture", b"a.jpg")
    for name, made in {
        "another picture": [*fields, consent, (file, picture + b"\0")],
        "two pictures": [*fields, consent, *[(file, picture)] * 2],
        "two ratings": [*fields, (disposition(b"rating"), b"bad")],
        "an id that is a file": [(disposition(b"caption_id", b"a"), genuine.encode()), fields[1]],
        "a null byte in a comment": [*fields, (disposition(b"comment"), b"a\0b")],
    }.items():
        yield Hostile(f"consent: {name}", request("/v1/feedback", form(*made), FORM))


def _paths() -> Iterator[Hostile]:
    for path in ("/nothing", "//v1/captions", "/V1/CAPTIONS", "/v1/captions%00", "/.env", "/redoc",
                 "/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2f..%2fapp.py", "/page//etc/passwd",
                 "/page/..%5capp.py", "/page/%c0%ae%c0%ae/app.py", "/" + "a" * 60_000, "/%zz"):  # fmt: skip
        yield Hostile(f"path: {path[:60]}", request(path, b"", method=b"GET"))
    for method, path in (("TRACE", "/v1/captions"), ("PROPFIND", "/v1/captions"), ("PUT", "/page/main.js"),
                         ("POST", "/metrics"), ("DELETE", "/v1/feedback/%00"), ("DELETE", "/v1/feedback/" + "a" * 5000),
                         ("DELETE", "/v1/feedback/..%2f..%2fcaptionist.db"), ("DELETE", "/v1/feedback/export"),
                         ("GET", "/v1/feedback/export?format=csv")):  # fmt: skip
        yield Hostile(f"method: {method} {path[:60]}", request(path, b"", method=method.encode()))


def _keys(picture: bytes) -> Iterator[Hostile]:
    known = KEY.encode()
    for header in (
        b"Authorization: Bearer a-wrong-key", b"Authorization: " + known, b"Authorization: Bearer " + known[:-1],
        b"Authorization: Bearer " + known.upper(), b"Authorization: Bearer \xff\xfe", b"X-API-Key: " + known,
        b"Authorization: Bearer " + b"k" * 50_000, b"Authorization: Bearer x, Bearer " + known,
        b"Authorization: Bearer wrong\r\nAuthorization: Bearer " + known, b"Cookie: Authorization=Bearer " + known,
    ):  # fmt: skip
        sent = request(f"/v1/captions?key={KEY}", picture, b"image/jpeg", header, key="")
        yield Hostile(f"key: {header[:60]!r}", sent)
    for name in (b"a%0d%0aSet-Cookie:%20stolen=1", b"i" * 200, b"<script>", b"\xff\xfe", b'","status":200,"x":"'):
        sent = captions(MARK, b"image/png", b"X-Request-ID: " + name)
        yield Hostile(f"request id: {name[:60]!r}", sent)


def _framing(picture: bytes) -> Iterator[Hostile]:
    """Lengths, chunks and codings of a body."""
    start = b"POST /v1/captions HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + KEY.encode() + b"\r\n"
    start += b"Content-Type: image/jpeg\r\nConnection: close\r\n"
    for length in (b"-1", b"0x12", b"1e1", b"9" * 30, b"18\r\nContent-Length: 17"):
        yield Hostile(f"length: {length!r}", start + b"Content-Length: " + length + b"\r\n\r\n" + MARK, NOT_HTTP)
    for coding in (b"xchunked", b"gzip, chunked", b"chunked, chunked", b"\x0bchunked"):
        yield Hostile(f"coding: {coding!r}", start + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n", NOT_HTTP)
    chunked = start + b"Transfer-Encoding: chunked\r\n\r\n"
    for chunk in (b"zz\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n"):
        yield Hostile(f"chunk: {chunk!r}", chunked + chunk, NOT_HTTP)
    for name, sent in {
        "a length and chunks": start + b"Content-Length: 18\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a length of 2**63": start + b"Content-Length: 9223372036854775808\r\n\r\n",
        "less than there is": start + b"Content-Length: 8\r\n\r\n" + picture,
        "more than there is": start + b"Content-Length: 1000000\r\n\r\n" + picture,
        "a chunk beyond 64 bits": chunked + b"f" * 17 + b"\r\nhello",
        "an endless extension": chunked + b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
        "many trailers": chunked + b"5\r\nhello\r\n0\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
        "chunks of one byte": chunked + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n",
        "no last chunk": chunked + b"5\r\nhello\r\n",
    }.items():
        yield Hostile(f"framing: {name}", sent)
    yield Hostile("framing: more, and the client leaves", start + b"Content-Length: 1000\r\n\r\n" + MARK, LEFT)
    yield Hostile("framing: no last chunk, and the client leaves", chunked + b"5\r\nhell", LEFT)
    bomb = gzip.compress(bytes(270_000_000), 1)
    yield Hostile("coding: a bomb", captions(bomb, b"image/jpeg", b"Content-Encoding: gzip"))


def _not_http(picture: bytes) -> Iterator[Hostile]:
    for name, sent in {
        "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + NOISE,
        "a picture": picture,
        "no version number": b"GET / HTTP/\r\n" + HOST + b"\r\n",
        "bytes beyond ASCII in the path": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
        "a null byte in a header": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n",
        "a header of 10 MB": b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 10_000_000,
        "a million headers": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 1_000_000,
        "a path of 1 MB": b"GET /" + b"a" * 1_000_000,
        "no host": b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n",
    }.items():
        yield Hostile(f"http: {name}", sent, NOT_HTTP)
    for name, sent in {
        "an unknown method": b"STEAL / HTTP/1.1\r\n" + END,
        "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "connect": b"CONNECT x.test:443 HTTP/1.1\r\n" + END,
        "a broken absolute path": b"GET http://[/ HTTP/1.1\r\n" + END,
        "another address": b"GET http://evil.test/nothing HTTP/1.1\r\n" + END,
        "another version": b"GET /nothing HTTP/9.9\r\n" + END,
        "an asterisk": b"OPTIONS * HTTP/1.1\r\n" + END,
        "an expectation of its own": captions(MARK, b"image/png", b"Expect: the-unexpected"),
        "1,000 ranges": request("/nothing", b"", b"", b"Range: bytes=" + b"0-1," * 1000, method=b"GET"),
    }.items():
        yield Hostile(f"http: {name}", sent)
    for sent in (b"SSH-2.0-OpenSSH_9.6\r\n", NOISE, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n", b"", b"GET /v1/mod"):
        # How long they may take is for whatever stands in front to say.
        yield Hostile(f"http: {sent[:20]!r}, and the client leaves", sent, LEFT)
