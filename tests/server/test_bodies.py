"""Bodies as people send them: what is unambiguous is read; for the rest, the problem is named."""

import base64
import gzip
import json
import textwrap
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from tests.server.conftest import Serve, caption_id, problem
from tests.server.forms import disposition, form

JPEG = {"Content-Type": "image/jpeg"}
FORM = {"Content-Type": "multipart/form-data; boundary=X"}


@pytest.fixture(scope="module")
def expected(client: TestClient, dog: bytes) -> Any:
    """The caption of the dog when it is sent plainly."""
    return client.post("/v1/captions", content=dog, headers=JPEG).json()["pictures"][0]["captions"]


def captions(response: Any) -> Any:
    assert response.status_code == 200, response.text
    (picture,) = response.json()["pictures"]
    return picture["captions"]


def base64_of(dog: bytes) -> dict[str, str]:
    plain = base64.b64encode(dog).decode()
    assert plain.endswith("=")
    assert {"+", "/"} <= set(plain)
    lines = "\n".join(textwrap.wrap(plain, 76))
    return {
        "as it should be": plain,
        "in lines": lines,
        "in lines of another system": lines.replace("\n", "\r\n"),
        "in lines with margins": textwrap.indent(lines, "    "),
        "a line end after it": plain + "\n",
        "spaces around it": f"  {plain} ",
        "the alphabet of URLs": base64.urlsafe_b64encode(dog).decode(),
        "the alphabet of URLs, no padding": base64.urlsafe_b64encode(dog).decode().rstrip("="),
        "no padding": plain.rstrip("="),
        "a data: URI": f"data:image/jpeg;base64,{plain}",
        "capital letters": f"DATA:image/JPEG;BASE64,{plain}",
        "a parameter": f"data:image/jpeg;name=dog.jpg;base64,{plain}",
        "a space behind the comma": f"data:image/jpeg;base64, {plain}",
        "escapes of a URI": f"data:image/jpeg;base64,{quote(plain, '')}",
        "lines in a data: URI": f"data:image/jpeg;base64,\n{lines}\n",
    }


KINDS = tuple(base64_of((b"\xfb\xef\xbe\xff" * 100)[:-1] + b"ab"))


@pytest.mark.parametrize("kind", KINDS)
def test_base64_is_read_as_people_send_it(client: TestClient, dog: bytes, expected: Any, kind: str) -> None:
    if not base64.b64encode(dog).endswith(b"="):  # what follows the end of a JPEG is no part of it
        dog += b"\0"
    body = {"pictures": [{"data": base64_of(dog)[kind]}]}
    assert captions(client.post("/v1/captions", json=body)) == expected


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ({"data": "a dog"}, "it has spaces"),
        ({"data": "AAAAA"}, "not base64"),
        ({"data": "AA=AAA"}, "not base64"),
        ({"data": "кошка"}, "not base64"),
        ({"data": "https://example.org/a.jpg"}, "belongs in url"),
        ({"data": "data:image/svg+xml,%3Csvg%3E"}, "data:image/png;base64,..."),
        ({"url": "data:image/png;base64," + "A" * 5000}, "belongs in data"),
        ({"url": "DATA:,a"}, "belongs in data"),
    ],
)
def test_what_is_no_base64_is_named(client: TestClient, picture: dict[str, str], said: str) -> None:
    assert said in problem(client.post("/v1/captions", json={"pictures": [picture]}), 422, "invalid-request")["detail"]


def test_json_may_begin_with_a_byte_order_mark(client: TestClient, dog: bytes, expected: Any) -> None:
    body = json.dumps({"pictures": [{"data": base64.b64encode(dog).decode()}]}).encode("utf-8-sig")
    response = client.post("/v1/captions", content=body, headers={"Content-Type": "application/json"})
    assert captions(response) == expected


@pytest.mark.parametrize(
    "headers",
    [
        disposition(b"picture"),
        disposition(b"picture", b""),
        disposition(b"picture") + b"; filename*=UTF-8''H%C3%BCndchen.jpg",
        disposition(b"picture") + b"\r\nContent-Type: image/jpeg",
        disposition(b"picture") + b"\r\nContent-Transfer-Encoding: binary",
    ],
)
def test_a_part_is_a_picture_whatever_its_name(client: TestClient, dog: bytes, expected: Any, headers: bytes) -> None:
    assert captions(client.post("/v1/captions", content=form((headers, dog)), headers=FORM)) == expected


def test_a_picture_is_called_by_its_extended_name(client: TestClient) -> None:
    headers = disposition(b"picture") + b"; filename*=UTF-8''H%C3%BCnd%22chen.txt"
    response = client.post("/v1/captions", content=form((headers, b"\0\1\2")), headers=FORM)
    assert "Hünd'chen.txt" in problem(response, 415, "not-an-image")["detail"]


def test_a_large_picture_needs_no_file_name(client: TestClient, dog: bytes, expected: Any) -> None:
    body = form((disposition(b"picture"), dog + bytes(2_000_000)))
    assert captions(client.post("/v1/captions", content=body, headers=FORM)) == expected


@pytest.mark.parametrize(
    ("parts", "status", "name", "said"),
    [
        ([(disposition(b"picture"), b"photo.jpg")], 422, "invalid-request", "-F picture=@photo.jpg"),
        ([(disposition(b"picture"), b"")], 422, "invalid-request", "at least one file"),
        ([(disposition(b"picture", b""), b"")], 422, "invalid-request", "at least one file"),
        ([(disposition(b"file") + b"; filename*=UTF-8''a.jpg", b"\0")], 422, "invalid-request", "`picture`"),
        (
            [(disposition(b"picture", b"a.jpg") + b"\r\nContent-Transfer-Encoding: base64", b"AAAA")],
            400,
            "bad-request",
            "Content-Transfer-Encoding",
        ),
    ],
)
def test_what_a_form_lacks_is_named(
    client: TestClient, parts: list[tuple[bytes, bytes]], status: int, name: str, said: str
) -> None:
    response = client.post("/v1/captions", content=form(*parts), headers=FORM)
    assert said in problem(response, status, name)["detail"]


def test_a_form_without_its_boundary_is_told_whose_the_header_is(client: TestClient, dog: bytes) -> None:
    body = form((disposition(b"picture", b"dog.jpg"), dog))
    response = client.post("/v1/captions", content=body, headers={"Content-Type": "multipart/form-data"})
    assert "your HTTP client" in problem(response, 400, "bad-request")["detail"]


def test_a_body_of_no_stated_type_is_a_picture_and_curls_own_type_is_explained(
    client: TestClient, dog: bytes, expected: Any
) -> None:
    assert captions(client.post("/v1/captions", content=dog)) == expected
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post("/v1/captions", content=dog, headers=headers)
    assert "-F picture=@" in problem(response, 415, "unsupported-media-type")["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate", "identity", "identity, gzip"])
def test_a_compressed_body_is_read(client: TestClient, dog: bytes, expected: Any, encoding: str) -> None:
    packs: dict[str, Callable[[bytes], bytes]] = {"deflate": zlib.compress, "identity": bytes}
    pack = packs.get(encoding, gzip.compress)
    bodies = [
        (dog + bytes(3_000_000), "image/jpeg"),  # more than a piece
        (form((disposition(b"picture", b"dog.jpg"), dog)), FORM["Content-Type"]),
        (json.dumps({"pictures": [{"data": base64.b64encode(dog).decode()}]}).encode(), "application/json"),
    ]
    for body, kind in bodies:
        headers = {"Content-Type": kind, "Content-Encoding": encoding}
        assert captions(client.post("/v1/captions", content=pack(body), headers=headers)) == expected


def test_compressed_feedback_is_read(client: TestClient, dog: bytes) -> None:
    body = json.dumps({"caption_id": caption_id(client, dog), "rating": "good"}).encode()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert client.post("/v1/feedback", content=gzip.compress(body), headers=headers).status_code == 201


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_what_cannot_be_unpacked_is_named(client: TestClient, dog: bytes, encoding: str) -> None:
    response = client.post("/v1/captions", content=dog, headers={**JPEG, "Content-Encoding": encoding})
    assert "gzip" in problem(response, 415, "unsupported-media-type")["detail"]
    assert response.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("damage", ["plain", "cut short", "longer"])
def test_a_compressed_body_that_is_not_sound_is_named(client: TestClient, dog: bytes, damage: str) -> None:
    packed = gzip.compress(dog)
    body = {"plain": dog, "cut short": packed[:-20], "longer": packed + b"\0"}[damage]
    response = client.post("/v1/captions", content=body, headers={**JPEG, "Content-Encoding": "gzip"})
    assert "ompressed" in problem(response, 400, "bad-request")["detail"]


def test_a_compressed_body_is_held_to_the_limits_of_what_is_in_it(serve: Serve) -> None:
    client = serve(max_inflight_bytes=2_000_000)
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 1_000_000
    problem(client.post("/v1/captions", content=bomb, headers={**JPEG, "Content-Encoding": "gzip"}), 413, "too-large")
    assert client.app.state.service.bodies.held == 0  # type: ignore[attr-defined]
