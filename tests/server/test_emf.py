"""Metrics for CloudWatch in the log: in its embedded metric format, and true."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from captionist.bundle import Bundle
from captionist.captions import Caption
from captionist.errors import SettingsError
from captionist.server.aws import emf
from captionist.server.aws.emf import EmbeddedMetrics
from captionist.server.settings import load_settings
from captionist.server.telemetry import REJECTIONS, Telemetry
from harness.processes import Service
from tests.server.serving import Running
from tests.tools import wait_until

COUNTS = ("Captions", "Requests", "Errors", "Rejections", "FeedbackGood", "FeedbackBad", "FeedbackStoreFailures")
NAMES = ("QueueDepth", "Admitted", *COUNTS, "Latency", "Confidence")
UNITS = {"Latency": "Milliseconds", "Confidence": "None"}


def parsed(line: str, namespace: str = "Captionist") -> dict[str, Any]:
    """A line with metrics, which must be as CloudWatch takes them."""
    found: dict[str, Any] = json.loads(line)
    metrics = [{"Name": name, "Unit": UNITS.get(name, "Count")} for name in NAMES if name in found]
    directive = {"Namespace": namespace, "Dimensions": [["Service"]], "Metrics": metrics}
    assert found["_aws"] == {"Timestamp": found["_aws"]["Timestamp"], "CloudWatchMetrics": [directive]}
    assert abs(found["_aws"]["Timestamp"] / 1000 - time.time()) < 600
    assert found.keys() == {"_aws", "Service", *(metric["Name"] for metric in metrics)}
    assert len(found.get("Latency", [])) <= 100
    return found


def metrics(service: Running) -> list[dict[str, Any]]:
    """The lines with metrics; and no other line looks like one."""
    lines = service.log.read_text().splitlines()
    found = [line for line in lines if '"_aws"' in line]
    assert all("event" in json.loads(line) for line in set(lines) - set(found))
    return [parsed(line) for line in found]


def total(lines: list[dict[str, Any]]) -> dict[str, float]:
    return {name: sum(line[name] for line in lines) for name in COUNTS}


def test_the_lines_of_a_service_tell_what_it_did(tmp_path: Path, dog: bytes) -> None:
    with Running(tmp_path, emf_interval="0.5", max_queue="4", service_name="blue", deadline="60") as service:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: service.ask("/v1/captions", dog), range(40)))
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {200, 503}, statuses
        assert service.ask("/v1/captions", b"no picture").status_code == 415
        caption = next(answer.json() for answer in answers if answer.status_code == 200)["pictures"][0]
        for rating in ("good", "good", "bad"):
            body = json.dumps({"caption_id": caption["id"], "rating": rating}).encode()
            assert service.ask("/v1/feedback", body, **{"Content-Type": "application/json"}).status_code == 201
        service.stop()  # within an interval: what it has of it must not be lost
        lines = metrics(service)
        assert [line["event"] for line in service.lines if "event" in line][-2:] == ["stopping", "stopped"]
        assert "_aws" in service.lines[-2]
    assert total(lines) == {
        "Captions": statuses[200],
        "Requests": 41,
        "Errors": statuses[503],
        "Rejections": statuses[503],
        "FeedbackGood": 2,
        "FeedbackBad": 1,
        "FeedbackStoreFailures": 0,
    }
    assert sum(len(line.get("Latency", [])) for line in lines) == statuses[200]
    assert all(0 < value < 60_000 for line in lines for value in line.get("Latency", []))
    confident = [line["Confidence"] for line in lines if line["Captions"]]
    assert confident == pytest.approx([caption["captions"][0]["confidence"]] * len(confident), abs=0.02)
    assert all("Confidence" not in line and "Latency" not in line for line in lines if not line["Captions"])
    assert 0 < max(line["QueueDepth"] for line in lines) <= max(line["Admitted"] for line in lines) <= 4
    assert {line["Service"] for line in lines} == {"blue"}
    assert {line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in lines} == {"Captionist"}


def test_the_log_may_be_silent_or_readable(tmp_path: Path) -> None:
    """Only errors are logged, as text; the metrics are still JSON, each on its own line."""
    settings: dict[str, Any] = {
        "emf_interval": "0.1",
        "log_level": "error",
        "log_format": "text",
        "emf_namespace": "A/b",
    }
    with Service(data_dir=tmp_path, **settings) as service:
        wait_until(lambda: service.log.read_text().count("\n") >= 20)
        assert service.terminate(60) == 0
        lines = [parsed(line, "A/b") for line in service.log.read_text().splitlines()]
    stamps = [line["_aws"]["Timestamp"] for line in lines]
    assert stamps == sorted(stamps)
    # The first may have been late, by less than an interval, and those after a stall are later.
    assert (stamps[-1] - stamps[0]) / (len(stamps) - 1) > 90


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path, dog: bytes) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "captionist.cli", "serve", "--port", "0"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "CAPTIONIST_EMF_INTERVAL": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        address = next(line["address"] for line in map(json.loads, process.stdout) if "address" in line)
        process.stdout.close()
        for _ in range(3):
            caption = urllib.request.Request(f"{address}/v1/captions", dog, {"Content-Type": "image/jpeg"})
            urllib.request.urlopen(caption).close()
        process.send_signal(signal.SIGTERM)
        process.wait(30)  # it stops; Python itself then complains of its standard output


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(Bundle.open().config, "0")


class Areas:
    """Stands in for a batcher: pictures waiting and admitted over time, in picture-seconds."""

    def __init__(self) -> None:
        self.told = (0.0, 0.0)

    def areas(self) -> tuple[float, float]:
        return self.told


def embedded(telemetry: Telemetry, batcher: Any = None, written: list[str] | None = None) -> EmbeddedMetrics:
    watched: Any = batcher or Areas()
    write = (written if written is not None else []).append
    return EmbeddedMetrics(telemetry.registry, watched, write, interval=60, namespace="N", service="s")


def line_of(metrics: EmbeddedMetrics) -> dict[str, Any]:
    written: list[str] = []
    metrics._write = written.append
    metrics._end_interval()
    (line,) = written
    return parsed(line, "N")


def test_the_queue_is_measured_through_all_of_the_interval(
    monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry
) -> None:
    now, batcher = 1000.0, Areas()
    monkeypatch.setattr(emf, "time", SimpleNamespace(monotonic=lambda: now, time_ns=time.time_ns))
    metrics = embedded(telemetry, batcher)
    now, batcher.told = 1010.0, (25.0, 40.0)
    line = line_of(metrics)
    assert (line["QueueDepth"], line["Admitted"]) == (2.5, 4.0)
    now += 10
    assert line_of(metrics)["QueueDepth"] == 0


def test_of_many_durations_a_hundred_stand_for_all(telemetry: Telemetry) -> None:
    metrics = embedded(telemetry)
    for number in range(10_000):
        metrics.answered("POST", "/v1/captions", 200, number / 1000)
    line = line_of(metrics)
    assert len(line["Latency"]) == 100
    # The mean of 100 numbers out of 0...9999 has a standard deviation of 289: this fails once in 1e9 times.
    assert sum(line["Latency"]) / 100 == pytest.approx(5000, abs=6.1 * 289)


def test_only_captions_count_and_an_interval_is_not_counted_twice(telemetry: Telemetry) -> None:
    telemetry.captioned(Caption("Before.", -1.0, 0.9, (), ()), 0.1, 0.1)
    metrics = embedded(telemetry)
    for method, route, status in (
        ("POST", "/v1/captions", 200),
        ("POST", "/v1/captions", 504),
        ("POST", "/v1/captions", 415),
        ("GET", "/v1/captions", 405),
        ("POST", "/v1/feedback", 503),
    ):
        telemetry.request(method, route, status, 0.25)
        metrics.answered(method, route, status, 0.25)
    telemetry.captioned(Caption("A dog.", -1.0, 0.5, (), ()), 0.1, 0.1)
    telemetry.captioned(Caption("A cat.", -1.0, 0.25, (), ()), 0.1, 0.1)
    telemetry.store_failed()
    for reason in REJECTIONS:
        telemetry.rejected(reason)
    line = line_of(metrics)
    assert (line["Requests"], line["Errors"], line["Latency"]) == (3, 1, [250.0])
    assert (line["Captions"], line["Confidence"]) == (2, 0.375)
    assert line["Rejections"] == 3  # those for lack of room
    assert line["FeedbackStoreFailures"] == 1
    assert set(total([line_of(metrics)]).values()) == {0}


def test_after_a_stall_there_is_one_line_and_not_one_for_each_interval(
    monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry
) -> None:
    written: list[str] = []
    metrics = embedded(telemetry, written=written)
    times = chain([0.0], repeat(300.0))  # five intervals go by as it begins
    monkeypatch.setattr(emf, "time", SimpleNamespace(monotonic=lambda: next(times), time_ns=time.time_ns))

    async def run() -> None:
        task = asyncio.create_task(metrics.run())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert len(written) == 2  # one due, and one at the end


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMF_INTERVAL", "0"),
        ("EMF_INTERVAL", "inf"),
        ("EMF_NAMESPACE", "AWS/ECS"),
        ("EMF_NAMESPACE", ":x"),
        ("EMF_NAMESPACE", "x" * 257),
        ("SERVICE_NAME", "café"),
    ],
)
def test_what_cloudwatch_would_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"CAPTIONIST_{name}", value)
    with pytest.raises(SettingsError, match=f"CAPTIONIST_{name}"):
        load_settings()
