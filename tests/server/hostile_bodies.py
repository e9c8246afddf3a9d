"""Requests that a service meets in the wild and must refuse, made on the spot and always the same."""

import base64
import json
from collections.abc import Iterator

from tests.server.forms import FORM, disposition, form
from tests.server.hostile_feedback import feedback, feedback_forms
from tests.server.hostile_http import (
    SERVED,
    Hostile,
    broken_http,
    captions,
    chunks,
    keys,
    lengths,
    paths,
)
from tests.server.hostile_pictures import MARK, NOISE, broken_files


def hostile_requests(caption_id: str, picture: bytes) -> list[Hostile]:
    """All of them. caption_id: a genuine one; picture: the file that it is about, a JPEG."""
    made = [
        *_pictures(picture),
        *_forms(picture),
        *_json(),
        *_urls(),
        *_options(picture),
        *feedback(caption_id, picture),
        *feedback_forms(caption_id, picture),
        *paths(),
        *keys(picture),
        *lengths(picture),
        *chunks(),
        *broken_http(picture),
    ]
    assert len({hostile.name for hostile in made}) == len({hostile.sent for hostile in made}) == len(made)
    return made


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
