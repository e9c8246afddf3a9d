"""Requests that a service meets in the wild and must refuse, made on the spot and always the same.

python -m tests.server.hostile_bodies FOLDER      writes each into a file, and prints how many there are
"""

import base64
import io
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from itsdangerous import URLSafeSerializer
from PIL import Image

from tests.server.hostile_http import (
    SERVED,
    Hostile,
    broken_http,
    captions,
    chunks,
    keys,
    lengths,
    paths,
    request,
)
from tests.server.hostile_pictures import MARK, NOISE, broken_files, samples

FORM = b"multipart/form-data; boundary=X"


def hostile_requests(caption_id: str, picture: bytes) -> list[Hostile]:
    """All of them. caption_id: a genuine one; picture: the file that it is about, a JPEG."""
    made = [
        *_pictures(picture),
        *_forms(picture),
        *_json(),
        *_urls(),
        *_options(picture),
        *_feedback(caption_id, picture),
        *_feedback_forms(caption_id, picture),
        *paths(),
        *keys(picture),
        *lengths(picture),
        *chunks(),
        *broken_http(picture),
    ]
    assert len({hostile.name for hostile in made}) == len({hostile.sent for hostile in made}) == len(made)
    return made


def disposition(name: bytes, filename: bytes | None = None) -> bytes:
    return (
        b'Content-Disposition: form-data; name="'
        + name
        + b'"'
        + (b'; filename="' + filename + b'"' if filename is not None else b"")
    )


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"X") -> bytes:
    """A multipart body of (headers, content)."""
    lines = [b"--" + boundary + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n" for headers, content in parts]
    return b"".join(lines) + b"--" + boundary + b"--\r\n"


# --- Pictures -------------------------------------------------------------------------------------------------------


def _pictures(picture: bytes) -> Iterator[Hostile]:
    files = dict(broken_files(picture))
    for name, data in files.items():
        yield Hostile(f"picture: {name}", captions(data, b"image/png"))
    for name in ("jpeg, cut in half", "a png of 900 megapixels", "text", "nothing"):
        part = (disposition(b"picture", b"photo.png") + b"\r\nContent-Type: image/png", files[name])
        yield Hostile(f"form: {name}", captions(form(part), FORM))
        uri = "data:image/png;base64," + base64.b64encode(files[name]).decode()
        body = json.dumps({"pictures": [{"data": uri}] * 2}).encode()
        yield Hostile(f"json: {name}", captions(body, b"application/json"))


# --- Bodies ---------------------------------------------------------------------------------------------------------


def _forms(picture: bytes) -> Iterator[Hostile]:
    good = (disposition(b"picture", b"dog.jpg"), picture)
    bad = (disposition(b"picture", b"dog.jpg"), MARK)
    bodies: dict[str, tuple[bytes, bytes]] = {
        "no boundary named": (form(good), b"multipart/form-data"),
        "an empty boundary": (form(good), b"multipart/form-data; boundary="),
        "another boundary": (form(good), b"multipart/form-data; boundary=Y"),
        "a boundary of 300 characters": (form(good, boundary=b"X" * 300), FORM + b"X" * 299),
        "a charset that is no charset": (form(bad), FORM + b"; charset=undefined"),
        "a charset that escapes": (
            form((disposition(b"picture", b"\\ud800.jpg"), MARK)),
            FORM + b"; charset=unicode_escape",
        ),
        "no end": (form(good)[:-5], FORM),
        "no end to its headers": (b"--X\r\n" + disposition(b"picture", b"a") + b"\r\n", FORM),
        "no parts": (b"--X--\r\n", FORM),
        "an empty body": (b"", FORM),
        "only line ends": (b"\r\n" * 1000, FORM),
        "a boundary without line end": (b"--X" + MARK, FORM),
        "5,000 fields": (form(*[(disposition(b"f%d" % n), b"1") for n in range(5000)]), FORM),
        "5,000 files": (form(*[(disposition(b"picture", b"a"), b"1") for _ in range(5000)]), FORM),
        "17 pictures": (form(*[good] * 17), FORM),
        "50 headers in a part": (form((disposition(b"picture", b"a") + b"\r\nA: b" * 50, picture)), FORM),
        "a header of 100,000 bytes": (form((disposition(b"picture", b"a" * 100_000), picture)), FORM),
        "a part without disposition": (form((b"A: b", picture)), FORM),
        "a part without name": (form((b'Content-Disposition: form-data; filename="a"', picture)), FORM),
        "a part without headers": (b"--X\r\n\r\n" + picture + b"\r\n--X--\r\n", FORM),
        "a header without colon": (form((disposition(b"picture", b"a") + b"\r\nnonsense", picture)), FORM),
        "a null byte in a header": (form((disposition(b"picture", b"a\0b"), MARK)), FORM),
        "a file in another field": (form((disposition(b"upload", b"a.jpg"), picture)), FORM),
        "a file in a field of 3,000 characters": (form((disposition(b"u" * 3000, b"a.jpg"), picture)), FORM),
        "a field of 2 MB": (form((disposition(b"num_beams"), b"1" * 2_000_000)), FORM),
        "a field twice": (form(good, (disposition(b"num_beams"), b"1"), (disposition(b"num_beams"), b"2")), FORM),
        "an unknown field": (form(good, (disposition(b"model"), b"../../etc/passwd")), FORM),
        "an unknown field in emoji": (form(good, (disposition("🐕".encode()), b"1")), FORM),
        "invalid UTF-8": (form(good, (disposition(b"num_beams"), b"\xff\xfe")), FORM),
        "a null byte in a field": (form(good, (disposition(b"num_beams"), b"1\0")), FORM),
        "mixed parts": (form(good), b"multipart/mixed; boundary=X"),
        "a form of the other kind": (b"picture=a&num_beams=1", b"application/x-www-form-urlencoded"),
    }
    for name, (body, content_type) in bodies.items():
        yield Hostile(f"form: {name}", captions(body, content_type))
    names: dict[str, bytes] = {
        "empty": b"",
        "a path": b"../../../../etc/passwd",
        "a windows path": b"..\\..\\windows\\system.ini",
        "a line end": b"a\r\nSet-Cookie: stolen=1\r\nX: .jpg",
        "an encoded line end": b"a%0d%0aSet-Cookie: stolen=1",
        "3,000 characters": b"a" * 3000,
        "markup": b"<script>alert(1)</script>",
        "control characters": b"\x1b[31mred\x07\x08",
        "text that turns around": "\u202egpj.exe".encode(),
        "invalid UTF-8": b"\xff\xfe\xfd",
        "a format string": b"%s%n{0}${jndi:ldap://x.test}",
    }
    for name, filename in names.items():
        yield Hostile(f"file name: {name}", captions(form((disposition(b"picture", filename), MARK)), FORM))
    emoji = (disposition(b"picture", "Hündchen 🐕.jpg".encode()), picture)
    yield Hostile("form: emoji in the file name", captions(form(emoji), FORM), SERVED)
    yield Hostile("form: a picture without file name", captions(form((disposition(b"picture"), picture)), FORM), SERVED)


def _json() -> Iterator[Hostile]:
    data = base64.b64encode(MARK).decode()
    bodies: dict[str, bytes] = {
        "no body": b"",
        "half an object": b'{"pictures": [{"data": "',
        "a bare word": b"pictures",
        "null": b"null",
        "a number": b"1",
        "a string": b'"pictures"',
        "a list": b"[]",
        "100,000 brackets": b"[" * 100_000,
        "100,000 objects": b'{"a":' * 100_000,
        "a million empty lists": b'{"pictures": [' + b"[]," * 1_000_000 + b"1]}",
        "300,000 fields": b"{" + b",".join(b'"%x":1' % n for n in range(300_000)) + b"}",
        "9,000 wrong pictures": json.dumps({"pictures": [1] * 9000}).encode(),
        "a field of 1 MB": b'{"' + b"a" * 1_000_000 + b'": 1}',
        "no pictures": b"{}",
        "an empty list": b'{"pictures": []}',
        "pictures that are null": b'{"pictures": null}',
        "pictures that are an object": b'{"pictures": {"data": "AAAA"}}',
        "a picture that is null": b'{"pictures": [null]}',
        "a picture without data": b'{"pictures": [{}]}',
        "a picture with both": b'{"pictures": [{"data": "AAAA", "url": "http://x.test/"}]}',
        "data that is a number": b'{"pictures": [{"data": 1}]}',
        "data that is a list": b'{"pictures": [{"data": [137, 80, 78, 71]}]}',
        "17 pictures": json.dumps({"pictures": [{"data": data}] * 17}).encode(),
        "a path for a picture": b'{"pictures": [{"path": "/etc/passwd"}]}',
        "an unknown field": b'{"pictures": [{"data": "AAAA"}], "__proto__": {"admin": true}}',
        "a field twice": b'{"pictures": [{"data": "AAAA"}], "pictures": []}',
        "a trailing comma": b'{"pictures": [{"data": "AAAA"},]}',
        "a comment": b'{"pictures": [{"data": "AAAA"}] /* hello */}',
        "single quotes": b"{'pictures': []}",
        "invalid UTF-8": b'{"pictures": [{"data": "\xff\xfe"}]}',
        "invalid UTF-8 in a name": b'{"\xc0\xaf": 1}',
        "an overlong null byte": b'{"pictures": [{"data": "\xc0\x80"}]}',
        "UTF-16": '{"pictures": []}'.encode("utf-16"),
        "UTF-32": '{"pictures": []}'.encode("utf-32"),
        "a byte order mark": b'\xef\xbb\xbf{"pictures": []}',
        "a lone surrogate": b'{"pictures": [{"data": "\\ud800"}]}',
        "half an escape": b'{"pictures": [{"data": "\\u12"}]}',
        "a raw line end in a string": b'{"pictures": [{"data": "\n"}]}',
        "a null byte": b'{"pictures": \0}',
        "rubbish after the end": b'{"pictures": []} {"pictures": []}',
        "python": b"{'pictures': __import__('os').system('id')}",
        "yaml": b"pictures:\n  - data: !!python/object/apply:os.system [id]\n",
        "noise": NOISE,
    }
    for name, body in bodies.items():
        yield Hostile(f"json: {name}", captions(body, b"application/json"))
    uris = {
        "no comma": "data:image/png;base64",
        "no base64": "data:image/png," + data,
        "a percent-encoded body": "data:image/svg+xml,%3Csvg%3E",
        "another word": "data:image/png;base32," + data,
        "base64 not last": "data:image/png;base64;charset=utf-8," + data,
        "only the scheme": "data:",
        "nothing after it": "data:image/png;base64,",
        "capital letters": "DATA:image/png;base64," + data,
        "two of them": f"data:image/png;base64,data:image/png;base64,{data}",
        "a line end in it": f"data:image/png;base64,{data[:4]}\n{data[4:]}",
        "a space in it": f"data:image/png;base64,{data[:4]} {data[4:]}",
        "percent signs in it": "data:image/png;base64,%3D%3D",
        "text": "data:text/plain;base64," + data,
    }
    base64s = {
        "one character": "A",
        "no padding": base64.b64encode(b"1234").decode().rstrip("="),
        "too much padding": "AAAA====",
        "padding in the middle": "AA==AAAA",
        "the URL alphabet": base64.urlsafe_b64encode(b"\xff\xfe\xff" * 9).decode(),
        "other letters": "кошка",
        "emoji": "🐕" * 100,
        "only padding": "====",
        "hexadecimal": MARK.hex() + "0",
        "a null byte": "AAAA\0",
        "a path": "../../etc/passwd",
    }
    for kind, texts in (("data: URI", uris), ("base64", base64s)):
        for name, text in texts.items():
            body = json.dumps({"pictures": [{"data": text}]}).encode()
            yield Hostile(f"{kind}: {name}", captions(body, b"application/json"))


def _urls() -> Iterator[Hostile]:
    """The service that these are for fetches URLs."""
    for url in (
        "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://017700000001/",
        "http://0177.0.0.1/", "http://0x7f.1/", "http://localhost/", "http://LOCALHOST./", "http://0/",
        "http://0.0.0.0/", "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[fe80::1%25lo]/", "http://[fd00:ec2::254]/",
        "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://192.168.0.1/", "http://172.16.0.1/",
        "http://100.64.0.1/", "http://224.0.0.1/", "http://255.255.255.255/", "http://user:secret@127.0.0.1/",
        "http://x.test@127.0.0.1/", "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "http://127.0.0.1:-1/",
        "http://127.0.0.1:x/", "http://[::1/", "http://[", "http://", "http:///a", "//127.0.0.1/", "/etc/passwd", "",
        "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:25/_HELO", "javascript:alert(1)", "http:127.1",
        "http://127.0.0.1\r\nX: y/", "http://127.0.0.1\0.x.test/", "http://①②⑦.⓪.⓪.①/", "http://a b/",
        f"http://{'a' * 70}/", f"http://127.0.0.1/{'a' * 3000}", "data:image/png;base64,AAAA",
    ):  # fmt: skip
        body = json.dumps({"pictures": [{"url": url}]}).encode()
        yield Hostile(f"url: {url[:80]!r}", captions(body, b"application/json"))


def _options(picture: bytes) -> Iterator[Hostile]:
    # The picture is a good one: it is the option that is refused.
    for query in (
        "num_captions=0", "num_captions=51", "num_captions=-1", "num_captions=1.5", "num_captions=many",
        "num_captions=", "num_captions=99999999999999999999999999", "num_captions=1e400", "num_captions=0x5",
        "num_captions=1;DROP%20TABLE%20feedback", "num_captions=3&num_captions=4", "num_captions=5&num_beams=2",
        "num_beams=0", "num_beams=51", "num_beams=NaN", "max_words=0", "max_words=1001", "explain=maybe", "explain=",
        "min_confidence=-0.1", "min_confidence=1.1", "min_confidence=nan", "min_confidence=inf",
        "min_confidence=-Infinity", "min_confidence=1,0", "nonsense=1", "num_beams=%00", "num_beams=%ff",
        "num_beams=%F0%9F%90%95", "num_captions[]=1", "&".join(f"x{n}=1" for n in range(2000)), "y" * 30_000,
    ):  # fmt: skip
        yield Hostile(f"query: {query[:60]}", captions(picture, b"image/jpeg", query=f"?{query}"))
    data = base64.b64encode(picture).decode()
    for option in (
        b'"num_captions": "3"', b'"num_captions": true', b'"num_captions": 1.5', b'"num_captions": [1]',
        b'"num_captions": 1e999', b'"num_captions": -0.0001', b'"num_captions": ' + b"9" * 5000,
        b'"num_beams": {"$gt": 0}', b'"max_words": "\\u0000"', b'"max_words": 1001', b'"explain": "yes"',
        b'"explain": 1', b'"explain": null', b'"min_confidence": NaN', b'"min_confidence": Infinity',
        b'"min_confidence": -Infinity',
        b'"min_confidence": 1e308', b'"min_confidence": "0.5"', b'"min_confidence": null', b'"num_captions": 0,'
        b'"num_captions": 51',
    ):  # fmt: skip
        body = b'{"pictures": [{"data": "' + data.encode() + b'"}], ' + option + b"}"
        yield Hostile(f"option: {option[:60].decode()}", captions(body, b"application/json"))
    for kind in (
        b"text/plain", b"text/html", b"application/pdf", b"application/xml", b"image", b"video/mp4", b"*/*",
        b"application/json5", b"application/problem+json", b"image\\png", b"\xff\xfe", b"a" * 20_000,
        b"application/vnd.captionist+json", b"; charset=utf-8",
    ):  # fmt: skip
        yield Hostile(f"content type: {kind[:40]!r}", captions(picture, kind))
    yield Hostile("content type: none", captions(picture, b""), SERVED)


# --- Feedback -------------------------------------------------------------------------------------------------------


def _feedback(genuine: str, picture: bytes) -> Iterator[Hostile]:
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


def _feedback_forms(genuine: str, picture: bytes) -> Iterator[Hostile]:
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


def main(folder: Path) -> None:
    """Write every request into a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = samples()["jpeg"]
    requests = hostile_requests("caption-id." + "A" * 300 + "." + "B" * 43, picture)
    for number, hostile in enumerate(requests):
        name = "".join(character if character.isalnum() else "-" for character in hostile.name)
        (folder / f"{number:03d}-{name[:80]}.{hostile.outcome.replace(' ', '-')}").write_bytes(hostile.sent)
    sys.stdout.write(f"{len(requests)} requests in {folder}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
