"""What is wrong around a body: paths, methods, keys, lengths, framing, and bytes that are not HTTP at all."""

import base64
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.server.hostile_pictures import MARK, NOISE

REFUSED, NOT_HTTP, LEFT, SERVED = "refused", "not HTTP", "left", "served"
"""A 4xx; a 400 (in plain text, as it is not ours) or the end of the connection; no answer, as the client is gone; odd,
but right: a 2xx."""
KEY = "the-key-of-a-client"
HOST = b"Host: captionist.test\r\n"
END = HOST + b"Connection: close\r\n\r\n"


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


def paths() -> Iterator[Hostile]:
    for path in (
        "/nothing", "/v1", "/v1/", "/v1/captions/", "/v1/captions/1", "//v1/captions", "/v1//captions", "/V1/CAPTIONS",
        "/v1/captions%00", "/v1/captions%2f", "/.env", "/.git/config", "/wp-login.php", "/docs", "/redoc", "/page",
        "/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2f..%2fapp.py", "/page/....//app.py",
        "/page//etc/passwd", "/page/%2fetc%2fpasswd", "/page/..%5capp.py", "/page/%00", "/page/index.html%00.png",
        "/page/%c0%ae%c0%ae/app.py", "/page/" + "a" * 5000, "/" + "a" * 60_000, "/%", "/%zz", "/%F0%9F%90%95", "/..",
    ):  # fmt: skip
        yield Hostile(f"path: {path[:60]}", request(path, b"", method=b"GET"))
    for method, path in (
        ("GET", "/v1/captions"), ("PUT", "/v1/captions"), ("PATCH", "/v1/captions"), ("DELETE", "/v1/captions"),
        ("TRACE", "/v1/captions"), ("OPTIONS", "/v1/captions"), ("PROPFIND", "/v1/captions"), ("PURGE", "/v1/captions"),
        ("GET", "/v1/feedback"), ("POST", "/v1/models"), ("POST", "/"), ("POST", "/metrics"), ("PUT", "/page/main.js"),
        ("GET", "/v1/feedback/1"), ("DELETE", "/v1/feedback/1"), ("DELETE", "/v1/feedback/%00"),
        ("DELETE", "/v1/feedback/" + "a" * 5000), ("DELETE", "/v1/feedback/%27%20OR%201=1--"),
        ("DELETE", "/v1/feedback/..%2f..%2fcaptionist.db"), ("GET", "/v1/feedback/export"),
        ("DELETE", "/v1/feedback/export"), ("GET", "/v1/feedback/export?format=csv"),
    ):  # fmt: skip
        yield Hostile(f"method: {method} {path[:60]}", request(path, b"", method=method.encode()))


def keys(picture: bytes) -> Iterator[Hostile]:
    def post(*headers: bytes, query: str = "") -> bytes:
        return request(f"/v1/captions{query}", picture, b"image/jpeg", *headers, key="")

    known = KEY.encode()
    for name, header in {
        "another": b"Bearer a-wrong-key",
        "empty": b"Bearer ",
        "no scheme": known,
        "another scheme": b"Basic " + base64.b64encode(b"a:" + known),
        "as a digest": b"Digest " + known,
        "twice in one": b"Bearer " + known + b" " + known,
        "in quotes": b'Bearer "' + known + b'"',
        "less its last letter": b"Bearer " + known[:-1],
        "in capitals": b"Bearer " + known.upper(),
        "beyond ASCII": b"Bearer \xff\xfe\xf0\x9f\x90\x95",
        "50,000 letters": b"Bearer " + b"k" * 50_000,
        "a comma": b"Bearer x, Bearer " + known,
    }.items():
        yield Hostile(f"key: {name}", post(b"Authorization: " + header))
    yield Hostile("key: none", post())
    yield Hostile("key: in the query", post(query=f"?key={KEY}&api_key={KEY}&access_token={KEY}"))
    yield Hostile("key: in a cookie", post(b"Cookie: Authorization=Bearer " + known))
    yield Hostile("key: in another header", post(b"X-API-Key: " + known))
    yield Hostile("key: a wrong one first", post(b"Authorization: Bearer wrong", b"Authorization: Bearer " + known))
    for name, given in {
        "a line end": b"a\r\nSet-Cookie: stolen=1",
        "an encoded line end": b"a%0d%0aSet-Cookie:%20stolen=1",
        "200 letters": b"i" * 200,
        "markup": b"<script>",
        "beyond ASCII": b"\xff\xfe",
        "JSON": b'","status":200,"x":"',
    }.items():
        yield Hostile(f"request id: {name}", captions(MARK, b"image/png", b"X-Request-ID: " + given))


def lengths(picture: bytes) -> Iterator[Hostile]:
    start = b"POST /v1/captions HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + KEY.encode() + b"\r\n"
    start += b"Content-Type: image/jpeg\r\nConnection: close\r\n"

    def post(lengths: bytes, body: bytes = MARK) -> bytes:
        return start + lengths + b"\r\n" + body

    for length in (
        b"-1",
        b"+18",
        b"18 18",
        b"abc",
        b"",
        b"0x12",
        b"18.0",
        b"1e1",
        b"9" * 30,
        b"\xb2",
        b"18\0",
    ):
        yield Hostile(f"length: {length!r}", post(b"Content-Length: " + length + b"\r\n"), NOT_HTTP)
    yield Hostile("length: two of them", post(b"Content-Length: 18\r\nContent-Length: 17\r\n"), NOT_HTTP)
    yield Hostile("length: the same twice", post(b"Content-Length: 18\r\nContent-Length: 18\r\n"))
    yield Hostile("length: the same twice in a line", post(b"Content-Length: 18, 18\r\n"))
    both = b"Content-Length: 18\r\nTransfer-Encoding: chunked\r\n"
    yield Hostile("length: and chunked", post(both, b"0\r\n\r\n"))
    yield Hostile("length: chunked first", post(b"\r\n".join(both.split(b"\r\n")[1::-1]) + b"\r\n", b"0\r\n\r\n"))
    yield Hostile("length: 2**63", post(b"Content-Length: 9223372036854775808\r\n"))
    yield Hostile("length: more than is taken", post(b"Content-Length: 256000001\r\n"))
    yield Hostile("length: less than there is", post(b"Content-Length: 8\r\n", picture))
    yield Hostile("length: none, but a body", post(b"", picture))
    yield Hostile("length: more than there is", post(b"Content-Length: 19\r\n"))
    yield Hostile("length: far more than there is", post(b"Content-Length: 1000000\r\n", picture))
    yield Hostile("length: more, and the client leaves", post(b"Content-Length: 1000\r\n"), LEFT)


def chunks() -> Iterator[Hostile]:
    start = b"POST /v1/captions HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + KEY.encode() + b"\r\n"
    start += b"Content-Type: image/jpeg\r\nConnection: close\r\nTransfer-Encoding: "
    chunked = start + b"chunked\r\n\r\n"
    for name, body in {
        "no number": b"zz\r\nhello\r\n0\r\n\r\n",
        "a negative number": b"-5\r\nhello\r\n0\r\n\r\n",
        "a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
        "no line end after it": b"5\r\nhelloXX0\r\n\r\n",
        "a null byte": b"5\0\r\nhello\r\n0\r\n\r\n",
        "a space before it": b" 5\r\nhello\r\n0\r\n\r\n",
    }.items():
        yield Hostile(f"chunks: {name}", chunked + body, NOT_HTTP)
    for coding in (
        b"xchunked",
        b"gzip",
        b"chunked, gzip",
        b"chunked, chunked",
        b"identity",
        b"\x0bchunked",
        b"chunked;q=1",
    ):
        yield Hostile(f"coding: {coding!r}", start + coding + b"\r\n\r\n0\r\n\r\n", NOT_HTTP)
    yield Hostile("chunks: a number beyond 64 bits", chunked + b"f" * 17 + b"\r\nhello")
    yield Hostile("chunks: line feeds alone", chunked + b"5\nhello\n0\n\n")
    yield Hostile("chunks: none", chunked + b"0\r\n\r\n")
    yield Hostile("chunks: an extension", chunked + b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n")
    yield Hostile("chunks: many trailers", chunked + b"5\r\nhello\r\n0\r\n" + b"a: b\r\n" * 10_000 + b"\r\n")
    yield Hostile("chunks: of one byte", chunked + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
    yield Hostile("chunks: no end", chunked + b"5\r\nhello\r\n")
    yield Hostile("chunks: no end, and the client leaves", chunked + b"5\r\nhell", LEFT)


def broken_http(picture: bytes) -> Iterator[Hostile]:
    for name, sent in {
        "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + NOISE,
        "null bytes": bytes(100),
        "a picture": picture,
        "no path": b"GET\r\n\r\n",
        "no version number": b"GET / HTTP/\r\n" + HOST + b"\r\n",
        "another protocol": b"GET / SPDY/3\r\n" + HOST + b"\r\n",
        "bytes beyond ASCII in the path": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
        "a space in the path": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
        "a space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "a null byte in a header": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n",
        "a carriage return in a header": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n\r\n",
        "a header without colon": b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
        "a header without name": b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
        "a header of 10 MB": b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 10_000_000,
        "a million headers": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 1_000_000,
        "a path of 1 MB": b"GET /" + b"a" * 1_000_000,
    }.items():
        yield Hostile(f"http: {name}", sent, NOT_HTTP)
    for name, sent in {
        "no slash": b"GET models HTTP/1.1\r\n" + END,
        "an unknown method": b"STEAL / HTTP/1.1\r\n" + END,
        "a method in small letters": b"get / HTTP/1.1\r\n" + END,
        "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "connect": b"CONNECT x.test:443 HTTP/1.1\r\n" + END,
        "a broken absolute path": b"GET http://[/ HTTP/1.1\r\n" + END,
    }.items():
        yield Hostile(f"http: {name}", sent)
    for name, sent in {
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
        "SMTP": b"EHLO x.test\r\n",
        "redis": b"*1\r\n$4\r\nPING\r\n",
        "noise": NOISE,
        "headers without end": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n",
        "nothing at all": b"",
        "half a word": b"GET /v1/mod",
    }.items():  # how long they may take is for whatever stands in front to say
        yield Hostile(f"http: {name}, and the client leaves", sent, LEFT)
    nothing = b"GET /nothing HTTP/1.1\r\nConnection: close\r\n"
    yield Hostile("http: a folded header", nothing + HOST + b"A: b\r\n c\r\n\r\n")
    yield Hostile("http: another version", b"GET /nothing HTTP/9.9\r\n" + END)
    yield Hostile("http: no host", nothing + b"\r\n", NOT_HTTP)
    yield Hostile("http: two hosts", nothing + HOST + b"Host: evil.test\r\n\r\n", NOT_HTTP)
    yield Hostile("http: a host with a path", nothing + b"Host: evil.test/x?y\r\n\r\n")
    yield Hostile("http: another address", b"GET http://evil.test/nothing HTTP/1.1\r\n" + END)
    yield Hostile("http: an asterisk", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    yield Hostile(
        "http: an upgrade to HTTP/2",
        b"GET /h2 HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n",
    )
    yield Hostile("http: an expectation of its own", captions(MARK, b"image/png", b"Expect: the-unexpected"))
    yield Hostile(
        "http: a coded body", captions(zlib.compress(picture), b"image/jpeg", b"Content-Encoding: deflate"), SERVED
    )
    bombs = {
        "a bomb": gzip.compress(bytes(270_000_000), 1),
        "half a coded body": zlib.compress(picture)[:-9],
        "more than a coded body": zlib.compress(picture) + picture,
        "a body that is not coded": picture,
    }
    for name, bomb in bombs.items():
        yield Hostile(f"http: {name}", captions(bomb, b"image/jpeg", b"Content-Encoding: gzip"))
    for coding in (b"br", b"zstd", b"gzip, gzip", b"x" * 3000):
        head = b"Content-Encoding: " + coding
        yield Hostile(f"http: a body coded with {coding[:9].decode()}", captions(picture, b"image/jpeg", head))
    yield Hostile("http: 1,000 ranges", request("/nothing", b"", b"", b"Range: bytes=" + b"0-1," * 1000, method=b"GET"))
