"""Feedback over HTTP: stored, exported, deleted."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from captionist.data import open_corpus
from tests.server.conftest import Serve, caption_id, problem


def export(client: TestClient) -> list[dict[str, Any]]:
    response = client.get("/v1/feedback/export")
    assert response.headers["content-type"].startswith("application/jsonl")
    return [json.loads(line) for line in response.text.splitlines()]


def test_feedback_is_stored_with_what_the_caption_id_tells(serve: Serve, dog: bytes) -> None:
    client = serve()
    body = {"caption_id": caption_id(client, dog), "rating": "bad", "correction": "  A dog.  ", "comment": "no 🐕"}
    response = client.post("/v1/feedback", json=body)
    assert response.status_code == 201
    assert response.json()["picture_kept"] is False
    (stored,) = export(client)
    assert stored["id"] == response.json()["id"]
    assert (stored["rating"], stored["correction"], stored["comment"]) == ("bad", "A dog.", "no 🐕")
    assert stored["model"] == "captionist-small"
    assert "dog" in stored["caption"]
    labels = 'model="captionist-small",model_version="1"'
    assert f'captionist_feedback_total{{{labels},rating="bad"}} 1.0' in client.get("/metrics").text
    assert f"captionist_feedback_corrections_total{{{labels}}} 1.0" in client.get("/metrics").text


def test_feedback_counts_for_the_model_that_wrote_the_caption(serve: Serve, dog: bytes) -> None:
    client = serve()
    ids = client.app.state.service.ids  # type: ignore[attr-defined]
    record = ids.read(caption_id(client, dog))
    older = ids.make(dataclasses.replace(record, version="0"))  # as another replica, not yet replaced, would write it
    assert client.post("/v1/feedback", json={"caption_id": older, "rating": "good"}).status_code == 201
    metrics = client.get("/metrics").text
    count = 'captionist_feedback_total{model="captionist-small",model_version="%s",rating="good"} %s'
    assert count % (0, 1.0) in metrics
    assert count % (1, 0.0) in metrics


def test_an_idempotency_key_stores_once(serve: Serve, dog: bytes) -> None:
    client = serve()
    body = {"caption_id": caption_id(client, dog), "rating": "good"}
    key = {"Idempotency-Key": "one"}
    first, second = (client.post("/v1/feedback", json=body, headers=key) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    other = client.post("/v1/feedback", json={**body, "rating": "bad"}, headers=key)
    problem(other, 422, "idempotency-mismatch")
    assert client.post("/v1/feedback", json=body).json()["id"] != first.json()["id"]
    assert len(export(client)) == 2


def test_an_id_that_was_forged_or_altered_is_refused(serve: Serve, dog: bytes) -> None:
    client = serve()
    genuine = caption_id(client, dog)
    for forged in ("", "x", genuine[:-1], genuine[:-2] + "AA", genuine + "A", genuine.swapcase()):
        problem(client.post("/v1/feedback", json={"caption_id": forged, "rating": "good"}), 422, "unknown-caption")
    assert export(client) == []


def test_ids_outlive_a_restart(serve: Serve, dog: bytes) -> None:
    found = caption_id(serve(), dog)
    assert serve().post("/v1/feedback", json={"caption_id": found, "rating": "good"}).status_code == 201


def test_a_picture_is_kept_only_with_consent_and_where_the_operator_keeps_them(serve: Serve, dog: bytes) -> None:
    closed, open_ = serve(), serve(keep_pictures=True)
    form = {"caption_id": caption_id(open_, dog), "rating": "good"}
    consenting = {**form, "consent": "true"}
    problem(closed.post("/v1/feedback", data=consenting, files={"picture": dog}), 422, "pictures-not-kept")
    unasked = open_.post("/v1/feedback", data=form, files={"picture": dog})
    assert unasked.json()["picture_kept"] is False
    problem(open_.post("/v1/feedback", data=consenting, files={"picture": dog + b"\0"}), 422, "invalid-request")
    problem(open_.post("/v1/feedback", json={**form, "consent": True}), 422, "invalid-request")
    kept = open_.post("/v1/feedback", data=consenting, files={"picture": dog})
    assert kept.json()["picture_kept"] is True
    assert [entry["picture_kept"] for entry in export(open_)] == [False, True]


def test_the_corpus_of_an_export_is_what_training_reads(serve: Serve, dog: bytes, tmp_path: Path) -> None:
    client = serve(keep_pictures=True)
    bright = cv2.imencode(".png", np.full((900, 1400, 3), 250, np.uint8))[1].tobytes()
    feedback = [
        (dog, {"rating": "bad", "correction": "a dog, standing\non grass"}),
        (dog, {"rating": "good"}),
        (bright, {"rating": "bad"}),
        (bright, {"rating": "bad", "correction": "nothing at all"}),
    ]
    for picture, fields in feedback:
        data = {"caption_id": caption_id(client, picture), "consent": "true", **fields}
        assert client.post("/v1/feedback", data=data, files={"picture": picture}).status_code == 201
    response = client.get("/v1/feedback/export", params={"format": "corpus"})
    zipfile.ZipFile(io.BytesIO(response.content)).extractall(tmp_path / "corpus")
    corpus = open_corpus(tmp_path / "corpus")
    assert not corpus.problems
    references = {reference for example in corpus.examples for reference in example.references}
    assert {"a dog, standing on grass", "nothing at all"} < references
    assert sorted(len(example.references) for example in corpus.examples) == [1, 2]
    sides = [max(cv2.imread(str(example.image)).shape) for example in corpus.examples]  # type: ignore[union-attr]
    assert max(sides) == 640
    assert all(b"Exif" not in example.image.read_bytes() for example in corpus.examples)


def test_deletion_removes_feedback_and_picture(serve: Serve, dog: bytes) -> None:
    client = serve(keep_pictures=True)
    data = {"caption_id": caption_id(client, dog), "rating": "good", "consent": "true"}
    stored = client.post("/v1/feedback", data=data, files={"picture": dog}).json()["id"]
    assert client.delete(f"/v1/feedback/{stored}").status_code == 204
    problem(client.delete(f"/v1/feedback/{stored}"), 404, "not-found")
    assert export(client) == []
    names = zipfile.ZipFile(io.BytesIO(client.get("/v1/feedback/export?format=corpus").content)).namelist()
    assert names == ["captions.txt"]


def test_a_store_that_fails_is_a_503_and_captions_go_on(
    serve: Serve, dog: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    body = {"caption_id": caption_id(client, dog), "rating": "good"}
    database = tmp_path / "captionist.db"
    monkeypatch.setattr("captionist.server.store.store._PATIENCE", 0)
    database.rename(tmp_path / "moved")
    database.mkdir()
    client.app.state.service.feedback.store.close()  # type: ignore[attr-defined]
    response = client.post("/v1/feedback", json=body)
    problem(response, 503, "store-unavailable")
    assert int(response.headers["retry-after"]) >= 1
    problem(client.get("/v1/feedback/export"), 503, "store-unavailable")
    assert client.get("/health/ready").status_code == 200
    caption_id(client, dog)
    assert "captionist_feedback_store_failures_total 2.0" in client.get("/metrics").text


@pytest.mark.parametrize("wrong", [{}, {"rating": "fine"}, {"rating": "good", "correction": " "}, {"rating": 1}])
def test_wrong_feedback_is_told_what_is_wrong(client: TestClient, wrong: dict[str, Any]) -> None:
    assert problem(client.post("/v1/feedback", json={"caption_id": "x", **wrong}), 422, "invalid-request")["errors"]
