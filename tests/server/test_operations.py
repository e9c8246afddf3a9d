"""Health, metrics, models, keys, headers: what operators see."""

import re
import threading

import pytest
from fastapi.testclient import TestClient

from captionist.server.telemetry import REJECTIONS
from tests.server.conftest import ADMIN_KEY, KEY, KEYS, Serve, caption_id, problem

ELSEWHERE = ("192.0.2.7", 50000)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def sample(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found, f"{name} is not in the metrics"
    return float(found[1])


def test_health_tells_ready_until_it_stops(serve: Serve) -> None:
    client = serve()
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    client.app.state.service.batcher.close()  # type: ignore[attr-defined]
    problem(client.get("/health/ready"), 503, "not-ready")
    assert client.get("/health/live").status_code == 200
    problem(client.post("/v1/captions", content=b"x", headers={"Content-Type": "image/jpeg"}), 503, "not-ready")


def test_a_thread_that_has_ended_is_told_until_somebody_restarts_the_service(serve: Serve) -> None:
    client = serve()
    batcher = client.app.state.service.batcher  # type: ignore[attr-defined]
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    batcher._engines.append(ended)
    assert "restart the service" in problem(client.get("/health/live"), 500, "internal")["detail"]
    assert "thread" in problem(client.get("/health/ready"), 503, "not-ready")["detail"]


def test_what_has_not_happened_reads_zero(serve: Serve) -> None:
    metrics = serve().get("/metrics").text
    for reason in REJECTIONS:
        assert sample(metrics, f'captionist_rejections_total{{reason="{reason}"}}') == 0
    for stage in ("decode", "queue", "encode", "generate"):
        assert sample(metrics, f'captionist_stage_duration_seconds_count{{stage="{stage}"}}') == 0
    for rating in ("good", "bad"):
        model = 'model="captionist-small",model_version="1"'
        assert sample(metrics, f'captionist_feedback_total{{{model},rating="{rating}"}}') == 0
    assert sample(metrics, "captionist_queue_depth_pictures") == 0
    assert sample(metrics, "captionist_ready") == 1
    assert "process_resident_memory_bytes" in metrics


def test_limits_can_be_read_beside_what_they_limit(serve: Serve) -> None:
    metrics = serve(max_queue=12, max_batch=3).get("/metrics").text
    assert sample(metrics, "captionist_queue_limit_pictures") == 12
    assert sample(metrics, "captionist_batch_limit_pictures") == 3


def test_metrics_count_what_happens(serve: Serve, dog: bytes) -> None:
    client = serve()
    caption_id(client, dog)
    client.post("/v1/captions", content=b"no picture", headers={"Content-Type": "image/jpeg"})
    client.get("/nowhere/at/all")
    metrics = client.get("/metrics").text
    count = 'captionist_http_requests_total{method="POST",route="/v1/captions",status="%d"}'
    assert sample(metrics, count % 200) == sample(metrics, count % 415) == 1
    assert sample(metrics, 'captionist_http_requests_total{method="GET",route="unmatched",status="404"}') == 1
    assert sample(metrics, 'captionist_pictures_total{outcome="captioned"}') == 1
    assert sample(metrics, 'captionist_pictures_total{outcome="refused"}') == 1
    assert sample(metrics, "captionist_caption_words_count") == 1
    assert sample(metrics, "captionist_batch_size_pictures_count") == 1
    assert sample(metrics, "captionist_http_requests_in_flight") == 1  # the scrape itself
    assert "/nowhere" not in metrics
    assert sample(metrics, 'captionist_http_request_duration_seconds_count{route="/v1/captions",status="200"}') == 1
    assert sample(metrics, "captionist_repeated_captions_ratio") == 0
    caption_id(client, dog)
    assert sample(client.get("/metrics").text, "captionist_repeated_captions_ratio") == 0.5


def test_keys_are_needed_where_there_are_some(serve: Serve, dog: bytes) -> None:
    client = serve(api_keys=KEYS)
    for headers in ({}, bearer("wrong"), {"Authorization": f"Basic {KEY}"}, {"Authorization": KEY}, bearer("")):
        response = client.post("/v1/captions", content=dog, headers={"Content-Type": "image/jpeg", **headers})
        problem(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    problem(client.get("/v1/models"), 401, "unauthorized")
    caption_id(client, dog, **bearer(KEY))
    assert client.get("/").status_code == client.get("/health/ready").status_code == 200


def test_only_an_administrator_exports(serve: Serve) -> None:
    client = serve(api_keys=KEYS)
    problem(client.get("/v1/feedback/export", headers=bearer(KEY)), 403, "forbidden")
    assert client.get("/v1/feedback/export", headers=bearer(ADMIN_KEY)).status_code == 200
    anonymous = serve(client=ELSEWHERE, allow_anonymous=True)
    problem(anonymous.get("/v1/feedback/export"), 403, "forbidden")


@pytest.mark.parametrize("header", [{"Host": "rebound.example"}, {"X-Forwarded-For": "192.0.2.7"}, {"Host": "["}])
def test_a_page_or_a_proxy_does_not_make_a_stranger_an_administrator(serve: Serve, header: dict[str, str]) -> None:
    client = serve()
    problem(client.get("/v1/feedback/export", headers=header), 403, "forbidden")
    problem(client.get("/metrics", headers=header), 403, "forbidden")
    assert client.get("/v1/models", headers=header).status_code == 200


def test_metrics_are_for_this_machine_and_administrators(serve: Serve) -> None:
    assert serve(api_keys=KEYS).get("/metrics").status_code == 200
    client = serve(client=ELSEWHERE, api_keys=KEYS)
    problem(client.get("/metrics"), 401, "unauthorized")
    problem(client.get("/metrics", headers=bearer(KEY)), 403, "forbidden")
    assert client.get("/metrics", headers=bearer(ADMIN_KEY)).status_code == 200


def test_each_key_has_its_own_rate(serve: Serve) -> None:
    slow = KEYS[0].model_copy(update={"rate": "2/hour"})
    client = serve(api_keys=(slow, KEYS[1]))
    for _ in range(2):
        assert client.get("/v1/models", headers=bearer(KEY)).status_code == 200
    response = client.get("/v1/models", headers=bearer(KEY))
    problem(response, 429, "rate-limited")
    assert 3500 < int(response.headers["retry-after"]) <= 3600
    assert client.get("/v1/models", headers=bearer(ADMIN_KEY)).status_code == 200
    limited = serve(anonymous_rate="1/minute")
    assert limited.get("/v1/models").status_code == 200
    problem(limited.get("/v1/models"), 429, "rate-limited")


def test_models_tells_what_may_be_asked_for(client: TestClient) -> None:
    answer = client.get("/v1/models").json()
    assert answer["models"] == [{"name": "captionist-small", "version": "1", "precision": "int8", "default": True}]
    assert answer["limits"]["max_pictures"] == 16
    assert answer["pictures_kept"] is False


def test_answers_carry_safe_headers_and_the_requests_id(client: TestClient) -> None:
    for path in ("/", "/health/live", "/nowhere", "/page/page.css"):
        headers = client.get(path, headers={"X-Request-ID": "mine-1"}).headers
        assert headers["x-request-id"] == "mine-1"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert len(client.get("/", headers={"X-Request-ID": "two words"}).headers["x-request-id"]) == 32


@pytest.mark.parametrize("origin", ["https://example.org", "https://evil.example"])
def test_other_origins_are_allowed_only_by_name(serve: Serve, origin: str) -> None:
    client = serve(cors_origins=("https://example.org",))
    ask = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Authorization"}
    allowed = client.options("/v1/captions", headers=ask).headers.get("access-control-allow-origin")
    assert allowed == (origin if origin == "https://example.org" else None)


def test_a_preflight_allows_what_tracing_adds_and_every_method(serve: Serve) -> None:
    client = serve(cors_origins=("https://example.org",))
    tracing = "authorization, traceparent, tracestate, baggage, sentry-trace, b3, x-amzn-trace-id, x-datadog-trace-id"
    for method in ("GET", "HEAD", "POST", "DELETE"):
        asked = {
            "Origin": "https://example.org",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": tracing,
        }
        allowed = client.options("/v1/captions", headers=asked)
        assert allowed.status_code == 200
        assert set(tracing.split(", ")) <= set(allowed.headers["access-control-allow-headers"].split(", "))


def test_every_get_answers_head(client: TestClient) -> None:
    paths = [path for path, operations in client.get("/openapi.json").json()["paths"].items() if "get" in operations]
    assert len(paths) > 3
    for path in (*paths, "/", "/page/main.js", "/openapi.json", "/nowhere", "/v1/captions"):
        told, asked = client.head(path), client.get(path)
        assert told.status_code == asked.status_code
        assert told.content == b""
        assert told.headers["content-type"] == asked.headers["content-type"]
    assert client.head("/health/ready").headers["content-length"] == str(len(client.get("/health/ready").content))
    assert (
        sample(
            client.get("/metrics").text,
            'captionist_http_requests_total{method="HEAD",route="/health/ready",status="200"}',
        )
        == 2
    )
