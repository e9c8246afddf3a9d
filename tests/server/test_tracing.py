"""OpenTelemetry traces, received by a small but real OTLP receiver."""

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from captionist import __version__
from captionist.server.schemas import CaptionResponse
from tests.server.serving import Running, StandIn
from tests.tools import missing, wait_until

try:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
except ImportError:
    missing("opentelemetry (pip install '.[otel]')")

ROOT = "1-67891233-abcdef012345678912345678"
TRACE = ROOT[2:].replace("-", "")
OTHER, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["decode", "queue", "encode", "generate"]


class Receiver(StandIn):
    """Takes spans by OTLP over HTTP; keeps them, and what each says of itself."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.hangs, self.reached = threading.Event(), threading.Event()
        super().__init__()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        assert (request.path, request.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        if self.hangs.is_set():
            self.reached.set()
            time.sleep(60)  # longer than anybody waits
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes(group.resource))
            self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return 200, b""

    @property
    def environment(self) -> dict[str, str]:
        """What tells a service of it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def attributes(of: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in of.attributes}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Running]:
    environment = receiver.environment | {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    folder = tmp_path_factory.mktemp("traced")
    with Running(folder, environment=environment, traces="true", service_name="blue", deadline="60") as started:
        yield started


def ask(service: Running, path: str, body: bytes | None = None, /, method: str = "", **headers: str) -> str:
    """Send a request under its own name; returns the name."""
    name = f"test-{time.monotonic_ns()}"
    service.ask(path, body, method, **{"X-Request-ID": name, **headers})
    return name


def traced(service: Running, receiver: Receiver, name: str) -> tuple[Span, list[Span]]:
    """A request's span and those below it, found by the trace's id in the log."""
    trace_id = service.line(request_id=name)["trace_id"]

    def spans() -> list[Span]:
        return [span for span in receiver.spans if span.trace_id.hex() == trace_id]

    wait_until(lambda: any(span.kind == Span.SPAN_KIND_SERVER for span in spans()), 20)  # those below it ended before
    newest = next(span for span in reversed(spans()) if span.kind == Span.SPAN_KIND_SERVER)
    return newest, [span for span in spans() if span.parent_span_id == newest.span_id]


def test_a_caption_is_a_span_with_one_for_each_stage(service: Running, receiver: Receiver, dog: bytes) -> None:
    span, stages = traced(service, receiver, ask(service, "/v1/captions?explain=1", dog))
    assert span.name == "POST /v1/captions"
    assert span.parent_span_id == b""
    told = attributes(span)
    assert told.pop("user_agent.original").startswith("python-httpx2/")
    assert told == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/v1/captions",
        "url.path": "/v1/captions",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
    }
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert [stage.name for stage in sorted(stages, key=lambda stage: stage.start_time_unix_nano)] == STAGES
    assert [attributes(stage).get("captionist.batch_size") for stage in stages] == [None, None, 1, 1]
    edges = [edge for stage in stages for edge in (stage.start_time_unix_nano, stage.end_time_unix_nano)]
    assert edges == sorted(edges)
    assert span.start_time_unix_nano <= edges[0]
    assert edges[-1] <= span.end_time_unix_nano + 1_000_000  # clocks of two kinds
    assert abs(span.end_time_unix_nano / 1e9 - time.time()) < 60
    resource = receiver.resources[-1]
    assert (resource["service.name"], resource["service.version"]) == ("blue", __version__)
    assert resource["deployment.environment.name"] == "test"


def test_the_stages_are_those_of_the_answer_picture_by_picture(
    service: Running, receiver: Receiver, dog: bytes
) -> None:
    name = f"test-{time.monotonic_ns()}"
    body = json.dumps({"pictures": [{"data": base64.b64encode(data).decode()} for data in (dog, b"x", dog)]}).encode()
    headers = {"X-Request-ID": name, "Content-Type": "application/json"}
    answer = CaptionResponse.model_validate_json(service.ask("/v1/captions", body, **headers).content)
    _, stages = traced(service, receiver, name)
    durations = defaultdict(list)
    for stage in stages:
        durations[stage.name].append((stage.end_time_unix_nano - stage.start_time_unix_nano) / 1e6)
    for stage_name in STAGES:
        assert max(durations[stage_name]) == pytest.approx(getattr(answer.milliseconds, stage_name), abs=0.01)
    assert sorted(attributes(stage)["captionist.picture"] for stage in stages) == [1] * 4 + [3] * 4


@pytest.mark.parametrize(
    ("path", "body", "name", "status", "problem"),
    [
        ("/v1/captions", b"no picture", "POST /v1/captions", 415, "not-an-image"),
        ("/nowhere/42", None, "GET", 404, "not-found"),
        ("/v1/feedback/" + "0" * 36, None, "GET /v1/feedback/{feedback_id}", 405, "method-not-allowed"),
    ],
)
def test_a_clients_problem_is_named_and_no_error(
    service: Running, receiver: Receiver, path: str, body: bytes | None, name: str, status: int, problem: str
) -> None:
    span, stages = traced(service, receiver, ask(service, path, body))
    told = attributes(span)
    assert (span.name, told["http.response.status_code"], told["captionist.problem"]) == (name, status, problem)
    assert (span.status.code, "error.type" in told) == (Status.STATUS_CODE_UNSET, False)
    assert ("http.route" in told) == ("/" in name)
    assert stages == []


def test_a_fault_of_the_service_is_an_error(tmp_path: Path, receiver: Receiver, dog: bytes) -> None:
    with Running(tmp_path, environment=receiver.environment, traces="true", deadline="0.001") as service:
        span, _ = traced(service, receiver, ask(service, "/v1/captions", dog))
    told = attributes(span)
    assert (told["captionist.problem"], told["error.type"]) == ("deadline-exceeded", "504")
    assert span.status.code == Status.STATUS_CODE_ERROR


@pytest.mark.parametrize(
    ("headers", "goes_on", "parent"),
    [
        ({"traceparent": f"00-OTHER-{PARENT}-01"}, "OTHER", PARENT),
        ({"X-Amzn-Trace-Id": f"Root=ROOT;Parent={PARENT};Sampled=1"}, "ROOT", PARENT),
        ({"X-Amzn-Trace-Id": "Self=1-67891234-12456789abcdef012345678a;Root=ROOT"}, "ROOT", ""),
        (
            {"traceparent": f"00-OTHER-{PARENT}-01", "X-Amzn-Trace-Id": "Root=ROOT;Parent=1111111111111111;Sampled=1"},
            "OTHER",
            PARENT,
        ),
    ],
)
def test_a_trace_that_has_begun_elsewhere_goes_on(
    service: Running, receiver: Receiver, headers: dict[str, str], goes_on: str, parent: str
) -> None:
    other, root = uuid.uuid4().hex, uuid.uuid4().hex
    xray = f"1-{root[:8]}-{root[8:]}"
    given = {name: value.replace("OTHER", other).replace("ROOT", xray) for name, value in headers.items()}
    span, _ = traced(service, receiver, ask(service, "/v1/models", None, **given))
    assert span.trace_id.hex() == {"OTHER": other, "ROOT": root}[goes_on]
    assert span.parent_span_id.hex() == parent


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{OTHER}-{PARENT}-01-" + "a" * 50_000},
        {"traceparent": "\xff" * 100, "tracestate": "=,;" * 10_000},
        {"X-Amzn-Trace-Id": f"Root={ROOT};" + "a" * 50_000},
        {"X-Amzn-Trace-Id": "Root=1-00000000-000000000000000000000000"},
    ],
)
def test_a_hostile_trace_is_not_gone_on_with(service: Running, receiver: Receiver, headers: dict[str, str]) -> None:
    span, _ = traced(service, receiver, ask(service, "/v1/models", None, **headers, **{"User-Agent": "a" * 10_000}))
    assert span.trace_id.hex() not in (OTHER, TRACE, "0" * 32)
    assert span.parent_span_id == b""
    assert len(span.SerializeToString()) < 1000
    assert service.errors.read_text() == ""


def test_a_trace_that_is_not_sampled_is_not_sent(service: Running, receiver: Receiver, dog: bytes) -> None:
    silent = "1" * 32
    name = ask(service, "/v1/captions", dog, traceparent=f"00-{silent}-{PARENT}-00")
    assert service.line(request_id=name)["trace_id"] == silent
    traced(service, receiver, ask(service, "/v1/captions", dog))
    assert silent not in {span.trace_id.hex() for span in receiver.spans}


def test_probes_and_scrapes_are_no_spans(service: Running, receiver: Receiver) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        ask(service, path)
    traced(service, receiver, ask(service, "/v1/models"))
    paths = {attributes(span).get("url.path") for span in receiver.spans}
    assert not paths & {"/health/live", "/health/ready", "/metrics"}


def test_a_method_that_is_none_is_called_other(service: Running, receiver: Receiver) -> None:
    span, _ = traced(service, receiver, ask(service, "/v1/models", method="SEARCH"))
    told = attributes(span)
    assert (told["http.request.method"], told["http.request.method_original"]) == ("_OTHER", "SEARCH")
    assert span.name.startswith("HTTP")


def test_the_last_spans_are_sent_before_it_stops(tmp_path: Path, receiver: Receiver, dog: bytes) -> None:
    environment = receiver.environment | {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_SERVICE_NAME": "green"}
    with Running(tmp_path, environment=environment, traces="true") as service:
        name = ask(service, "/v1/captions", dog)
        service.stop()
        _, stages = traced(service, receiver, name)
        assert len(stages) == 4
    assert receiver.resources[-1]["service.name"] == "green"


@pytest.mark.slow
@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "is-not-there"])
def test_a_receiver_that_takes_nothing_holds_nothing_up(tmp_path: Path, dog: bytes, hangs: bool) -> None:
    receiver = Receiver()
    receiver.hangs.set()
    environment = receiver.environment
    if not hangs:
        receiver.__exit__()
    with Running(tmp_path, environment=environment, traces="true") as service:
        for _ in range(3):
            assert service.line(request_id=ask(service, "/v1/captions", dog))["status"] == 200
        if hangs:
            assert receiver.reached.wait(60)
        service.stop()
        assert len(service.lines) < 20


def test_it_can_be_switched_off_by_opentelemetrys_own_variable(tmp_path: Path, receiver: Receiver) -> None:
    environment = receiver.environment | {"OTEL_SDK_DISABLED": "true"}
    with Running(tmp_path, environment=environment, traces="true") as service:
        name = ask(service, "/v1/models", None, **{"X-Amzn-Trace-Id": f"Root={ROOT}"})
        line = service.line(request_id=name)
        assert (line["status"], line["trace_id"]) == (200, ROOT)


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=given, timeout=60)


def test_without_the_setting_nothing_of_it_is_imported(tmp_path: Path) -> None:
    start = (
        "import sys, captionist.server.run; from captionist.server.service import Service; "
        "from captionist.server.app import create_app; from captionist.server.settings import Settings; "
        f"create_app(Service.start(Settings(data_dir={str(tmp_path)!r}, traces=%s))); "
        "print(*(name for name in sys.modules if name.startswith('opentelemetry.')))"
    )
    extra = {"opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.propagators.aws", "opentelemetry.proto"}
    assert extra <= set(python(start % True).stdout.split())
    assert not extra & set(python(start % False).stdout.split())  # the API alone is what FastAPI needs


@pytest.mark.slow
def test_without_the_extra_the_setting_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; sys.argv = ['captionist', 'serve', '--port', '0']; "
        "from captionist.cli import main; main()"
    )
    ended = python(script, CAPTIONIST_TRACES="true", CAPTIONIST_DATA_DIR=str(tmp_path))
    assert ended.returncode == 2
    assert "CAPTIONIST_TRACES needs the package opentelemetry" in ended.stderr
    assert 'pip install "captionist[serve,otel]"' in ended.stderr
    assert "Traceback" not in ended.stderr
