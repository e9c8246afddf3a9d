"""POST /v1/captions."""

import base64
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from captionist import Captioner
from captionist.options import MOST_TOKENS
from tests.images.samples import SAMPLES
from tests.server.conftest import EXAMPLES, Serve, problem
from tests.tools import wait_until

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def expected() -> str:
    """What the library says about the dog."""
    return Captioner().caption(EXAMPLES / "dog.jpg").text


def as_json(*pictures: bytes, **options: Any) -> dict[str, Any]:
    return {"pictures": [{"data": base64.b64encode(picture).decode()} for picture in pictures], **options}


def test_three_kinds_of_body_give_the_librarys_caption(client: TestClient, dog: bytes, expected: str) -> None:
    uri = "data:image/jpeg;base64," + base64.b64encode(dog).decode()
    for response in (
        client.post("/v1/captions", content=dog, headers=JPEG),
        client.post("/v1/captions", files={"picture": ("dog.jpg", dog)}),
        client.post("/v1/captions", json=as_json(dog)),
        client.post("/v1/captions", json={"pictures": [{"data": uri}]}),
    ):
        assert response.status_code == 200, response.text
        answer = response.json()
        (picture,) = answer["pictures"]
        (caption,) = picture["captions"]
        assert caption["text"] == expected
        assert caption["log_probability"] < 0 < caption["confidence"] < 1
        assert caption["words"] is None
        assert answer["model"] == {"name": "captionist-small", "version": "1"}
        assert answer["milliseconds"]["encode"] > 0


def test_options_mean_the_same_in_the_query_a_form_and_json(client: TestClient, dog: bytes) -> None:
    options: dict[str, str | int] = {"num_captions": 2, "max_words": 4, "explain": "true"}
    answers = [
        client.post("/v1/captions", content=dog, headers=JPEG, params=options).json()["pictures"],
        client.post("/v1/captions", files={"picture": dog}, data=options).json()["pictures"],
        client.post("/v1/captions", json=as_json(dog, **{**options, "explain": True})).json()["pictures"],
    ]
    for (picture,) in answers:
        assert picture["captions"] == answers[0][0]["captions"]
        assert len(picture["captions"]) == 2
        for caption in picture["captions"]:
            words = caption["text"].lower().rstrip(".").split()
            assert len(words) <= 4
            assert [word["word"] for word in caption["words"]] == words
            assert all(len(word["weights"]) == len(word["weights"][0]) == 5 for word in caption["words"])


def test_whatever_the_model_does_by_itself_may_be_asked_for(client: TestClient, dog: bytes) -> None:
    own = Captioner().defaults
    limits = client.get("/v1/models").json()["limits"]
    assert own.num_beams <= limits["max_beams"]
    by_itself = client.post("/v1/captions", content=dog, headers=JPEG).json()["pictures"][0]["captions"]
    for options in ({"num_beams": own.num_beams}, {"num_beams": own.num_beams, "num_captions": own.num_captions}):
        answer = client.post("/v1/captions", json=as_json(dog, **options))
        assert answer.json()["pictures"][0]["captions"] == by_itself
    most = client.post("/v1/captions", json=as_json(dog, num_captions=limits["max_captions"], max_words=MOST_TOKENS))
    assert most.status_code == 200


def test_several_pictures_come_back_in_order_and_a_bad_one_carries_its_problem(
    client: TestClient, dog: bytes, expected: str
) -> None:
    river = (EXAMPLES / "river.jpg").read_bytes()
    files = [("picture", ("river.jpg", river)), ("picture", ("notes.txt", b"hello")), ("picture", ("dog.jpg", dog))]
    response = client.post("/v1/captions", files=files)
    assert response.status_code == 200
    first, second, third = response.json()["pictures"]
    assert third["captions"][0]["text"] == expected != first["captions"][0]["text"]
    assert second["id"] is None
    assert second["captions"] == []
    assert second["problem"]["type"].endswith(":not-an-image")
    assert "notes.txt" in second["problem"]["detail"]


@pytest.mark.parametrize("kind", ["heic", "avif", "jpeg-2000"])
def test_what_phones_and_cameras_write_is_read(client: TestClient, kind: str) -> None:
    for headers in ({"Content-Type": f"image/{kind}"}, {"Content-Type": "application/octet-stream"}):
        response = client.post("/v1/captions", content=SAMPLES[kind], headers=headers)
        assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("data", "status", "name"),
    [
        (b"not a picture", 415, "not-an-image"),
        (b"", 422, "empty-image"),
        (b"\xff\x0a\xfa\x7f", 415, "unsupported-image"),
    ],
)
def test_a_picture_that_cannot_be_read_is_a_problem(client: TestClient, data: bytes, status: int, name: str) -> None:
    problem(client.post("/v1/captions", content=data, headers=JPEG), status, name)


def test_a_truncated_picture_is_a_problem(client: TestClient, dog: bytes) -> None:
    problem(client.post("/v1/captions", content=dog[:5000], headers=JPEG), 422, "corrupt-image")


def test_captions_below_the_least_confidence_are_left_out(client: TestClient, dog: bytes) -> None:
    (picture,) = client.post("/v1/captions?min_confidence=1", content=dog, headers=JPEG).json()["pictures"]
    assert picture == {"id": None, "captions": [], "problem": None}


@pytest.mark.parametrize(
    ("request_", "status", "name", "part"),
    [
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported-media-type", "text/plain"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad-request", "JSON"),
        ({"json": {"pictures": []}}, 422, "invalid-request", "pictures"),
        ({"json": {"pictures": [{}]}}, 422, "invalid-request", "either data or url"),
        ({"json": {"pictures": [{"data": "%"}]}}, 422, "invalid-request", "base64"),
        ({"json": {"pictures": [{"url": "https://example.org/a.jpg"}]}}, 422, "url-refused", "not fetch URLs"),
        ({"json": {"pictures": [{"data": "aGk="}] * 17}}, 422, "invalid-request", "at most 16"),
        ({"json": {"pictures": [{"data": "aGk="}], "nonsense": 1}}, 422, "invalid-request",
         "unknown option 'nonsense': Known: num_captions, num_beams"),
        ({"json": {"pictures": [{"data": "aGk="}], "beams": 1}}, 422, "invalid-request", "did you mean num_beams?"),
        ({"json": {"pictures": [{"data": "aGk="}], "num_beams": "3"}}, 422, "invalid-request",
         "num_beams must be a whole number"),
        ({"files": {"picture": b"hi"}, "data": {"num_beams": "51"}}, 422, "invalid-request",
         "num_beams must be at most 50"),
        ({"files": {"image": b"hi"}}, 422, "invalid-request", "`picture`"),
        ({"data": {"num_beams": "1"}, "files": {}}, 415, "unsupported-media-type", "x-www-form-urlencoded"),
        ({"content": b"hi", "headers": JPEG, "params": {"num_captions": "4", "num_beams": "2"}}, 422, "invalid-request",
         "num_captions"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_what_is_wrong(
    client: TestClient, request_: dict[str, Any], status: int, name: str, part: str
) -> None:
    assert part in problem(client.post("/v1/captions", **request_), status, name)["detail"]


def test_a_picture_over_the_limits_is_refused_before_it_is_decoded(serve: Serve, dog: bytes) -> None:
    small = serve(max_picture_bytes=10_000)
    problem(small.post("/v1/captions", content=dog, headers=JPEG), 413, "too-large")
    problem(small.post("/v1/captions", json=as_json(bytes(60_000))), 413, "too-large")
    flat = serve(max_picture_pixels=10_000)
    problem(flat.post("/v1/captions", content=dog, headers=JPEG), 413, "too-large")
    announced = serve(max_inflight_bytes=1_000_000)
    problem(announced.post("/v1/captions", content=bytes(1_000_001), headers=JPEG), 413, "too-large")
    assert announced.post("/v1/captions", content=dog, headers=JPEG).status_code == 200


def test_a_full_queue_answers_at_once_and_says_when_to_come_back(serve: Serve, dog: bytes) -> None:
    client = serve(max_queue=1)
    batcher = client.app.state.service.batcher  # type: ignore[attr-defined]
    with batcher.room(1):
        response = client.post("/v1/captions", content=dog, headers=JPEG)
    problem(response, 503, "overloaded")
    assert int(response.headers["retry-after"]) >= 1
    assert client.post("/v1/captions", content=dog, headers=JPEG).status_code == 200


def test_a_deadline_that_has_passed_is_a_504(serve: Serve, dog: bytes) -> None:
    client = serve(deadline=1e-4)
    problem(client.post("/v1/captions", content=dog, headers=JPEG), 504, "deadline-exceeded")
    service = client.app.state.service  # type: ignore[attr-defined]
    wait_until(lambda: service.batcher.admitted == 0)
    assert 'captionist_abandoned_requests_total{reason="deadline"} 1.0' in client.get("/metrics").text


def test_an_engine_that_fails_is_a_500_without_its_words_and_the_next_request_is_served(
    serve: Serve, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    with monkeypatch.context() as broken:
        broken.setattr(Captioner, "encode", lambda *_: 1 / 0)
        document = problem(client.post("/v1/captions", content=dog, headers=JPEG), 500, "internal")
    assert "division" not in str(document)
    assert client.post("/v1/captions", content=dog, headers=JPEG).status_code == 200


def test_a_picture_at_which_the_engine_fails_leaves_the_others_of_its_request(
    serve: Serve, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    encode, bad = Captioner.encode, (EXAMPLES / "river.jpg").read_bytes()
    poison = Captioner().prepare(bad).pixels

    def fails_at_one(captioner: Captioner, pictures: Any) -> Any:
        if any(np.array_equal(picture.pixels, poison) for picture in pictures):
            raise MemoryError
        return encode(captioner, pictures)

    monkeypatch.setattr(Captioner, "encode", fails_at_one)
    response = client.post("/v1/captions", json=as_json(dog, bad, dog))
    assert response.status_code == 200
    first, second, third = response.json()["pictures"]
    assert first["captions"] == third["captions"] != []
    assert second["problem"]["type"].endswith(":internal")
    assert "logged under this request's id" in second["problem"]["detail"]
