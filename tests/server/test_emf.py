"""Metrics for CloudWatch in the log: by its specification, and true."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
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
from tests.server.emf_format import faults
from tests.server.serving import Running, running
from tests.server.test_batching import Slow, ask, busy, queued
from tests.server.test_batching import start as start_batcher

COUNTS = ("Captions", "Requests", "Errors", "Rejections", "FeedbackGood", "FeedbackBad", "FeedbackStoreFailures")
GOOD = {
    "_aws": {
        "Timestamp": time.time_ns() // 1_000_000,
        "CloudWatchMetrics": [
            {"Namespace": "N", "Dimensions": [["Service"]], "Metrics": [{"Name": "A", "Unit": "Count"}]}
        ],
    },
    "Service": "s",
    "A": [1, 2.5],
}


def post(service: Running, path: str, body: bytes, kind: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(service.url + path, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def metrics(service: Running) -> list[dict[str, Any]]:
    """The lines with metrics, each sound; and no other line looks like one."""
    lines = service.log.read_text().splitlines()
    found = [line for line in lines if '"_aws"' in line]
    assert [faults(line) for line in found] == [[]] * len(found)
    assert all("event" in json.loads(line) for line in set(lines) - set(found))
    return [json.loads(line) for line in found]


def total(lines: list[dict[str, Any]]) -> dict[str, float]:
    return {name: sum(line[name] for line in lines) for name in COUNTS}


def stop(service: Running) -> None:
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0


def test_the_lines_of_a_service_tell_what_it_did(tmp_path: Path, dog: bytes) -> None:
    with running(tmp_path, emf_interval="0.5", max_queue="4", service_name="blue", deadline="60") as service:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: post(service, "/v1/captions", dog, "image/jpeg"), range(40)))
        statuses = Counter(status for status, _ in answers)
        assert set(statuses) == {200, 503}, statuses
        assert post(service, "/v1/captions", b"no picture", "image/jpeg")[0] == 415
        caption = next(answer for status, answer in answers if status == 200)["pictures"][0]
        for rating in ("good", "good", "bad"):
            body = json.dumps({"caption_id": caption["id"], "rating": rating}).encode()
            assert post(service, "/v1/feedback", body, "application/json")[0] == 201
        stop(service)  # within an interval: what it has of it must not be lost
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


def test_without_the_setting_there_are_none(tmp_path: Path, dog: bytes) -> None:
    with running(tmp_path) as service:
        post(service, "/v1/captions", dog, "image/jpeg")
        stop(service)
        assert metrics(service) == []


def test_the_log_may_be_silent_or_readable_and_the_interval_tiny(tmp_path: Path) -> None:
    """Only errors are logged, and those as text; the metrics are still JSON, each on a line of its own."""
    log = tmp_path / "log"
    with log.open("wb") as sink:
        environment = {"EMF_INTERVAL": "0.1", "LOG_LEVEL": "error", "LOG_FORMAT": "text", "EMF_NAMESPACE": "A/b"}
        process = subprocess.Popen(
            [sys.executable, "-m", "captionist.cli", "serve", "--port", "0"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", **{f"CAPTIONIST_{key}": value for key, value in environment.items()}},
            stdout=sink,
        )
    try:
        deadline = time.monotonic() + 60
        while log.read_text().count("\n") < 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    lines = log.read_text().splitlines()
    assert [faults(line) for line in lines] == [[]] * len(lines)
    stamps = [json.loads(line)["_aws"]["Timestamp"] for line in lines]
    assert stamps == sorted(stamps)
    # The first may have been late, by less than an interval, and those after a stall are later.
    assert (stamps[-1] - stamps[0]) / (len(stamps) - 1) > 90


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path, dog: bytes) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "captionist.cli", "serve", "--port", "0"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "CAPTIONIST_EMF_INTERVAL": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        address = next(line["address"] for line in map(json.loads, process.stdout) if "address" in line)
        process.stdout.close()
        for _ in range(3):
            caption = urllib.request.Request(f"{address}/v1/captions", dog, {"Content-Type": "image/jpeg"})
            urllib.request.urlopen(caption).close()
        process.send_signal(signal.SIGTERM)
        process.wait(30)  # it stops; Python itself then complains of its standard output
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(Bundle.open().config, "0")


class Idle:
    """Stands in for a batcher that has nothing to do."""

    def areas(self) -> tuple[float, float]:
        return 0.0, 0.0


def embedded(telemetry: Telemetry, batcher: Any = None, written: list[str] | None = None) -> EmbeddedMetrics:
    watched: Any = batcher or Idle()
    write = (written if written is not None else []).append
    return EmbeddedMetrics(telemetry.registry, watched, write, interval=60, namespace="N", service="s")


def line_of(metrics: EmbeddedMetrics) -> dict[str, Any]:
    written: list[str] = []
    metrics._write = written.append
    metrics._end_interval()
    (line,) = written
    assert not faults(line), faults(line)
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_queue_is_measured_through_all_of_the_interval(telemetry: Telemetry) -> None:
    model = Slow()
    batcher = start_batcher(model, telemetry)
    begun = time.monotonic()
    metrics = embedded(telemetry, batcher)

    async def run() -> tuple[float, float]:
        """Seconds for which all four were there for certain, and for which any can have been."""
        came = time.monotonic()
        async with busy(batcher, model):
            waiting = [asyncio.create_task(ask(batcher, number)) for number in (1, 2, 3)]
            await queued(batcher, 3)
            full = time.monotonic()
            await asyncio.sleep(0.3)
            stayed = time.monotonic() - full
        await asyncio.gather(*waiting)
        assert batcher.waiting == batcher.admitted == 0
        present = time.monotonic() - came
        await asyncio.sleep(0.1)
        return stayed, present

    try:
        inside = time.monotonic()
        stayed, present = asyncio.run(run())
        inside = time.monotonic() - inside
        line = line_of(metrics)
        interval = time.monotonic() - begun
        for name, most in (("QueueDepth", 3), ("Admitted", 4)):
            assert most * stayed / interval - 0.001 <= line[name] <= most * present / inside + 0.001
        assert line_of(metrics)["QueueDepth"] == 0
    finally:
        model.gate.set()
        batcher.close()


def test_of_many_durations_a_hundred_stand_for_all(telemetry: Telemetry) -> None:
    metrics = embedded(telemetry)
    for number in range(10_000):
        metrics.answered("POST", "/v1/captions", 200, number / 1000)
    line = line_of(metrics)
    assert len(line["Latency"]) == 100
    # The mean of 100 of 0...9999 has a standard deviation of 289: this fails once in 1e9 times.
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
    assert line["Rejections"] == 3  # those for want of room
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
        ("EMF_INTERVAL", "1e-9"),
        ("EMF_INTERVAL", "inf"),
        ("EMF_INTERVAL", "often"),
        ("EMF_NAMESPACE", "AWS/ECS"),
        ("EMF_NAMESPACE", ":x"),
        ("EMF_NAMESPACE", "a\nb"),
        ("EMF_NAMESPACE", "x" * 257),
        ("SERVICE_NAME", ":x"),
        ("SERVICE_NAME", "café"),
        ("SERVICE_NAME", "x" * 256),
    ],
)
def test_what_cloudwatch_would_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"CAPTIONIST_{name}", value)
    with pytest.raises(SettingsError, match=f"CAPTIONIST_{name}"):
        load_settings()


@pytest.mark.parametrize(
    "change",
    [
        {"_aws": None},
        {"_aws": {**GOOD["_aws"], "Timestamp": time.time()}},  # type: ignore[dict-item]
        {"_aws": {**GOOD["_aws"], "Timestamp": int(time.time())}},  # type: ignore[dict-item]
        {"Service": 1},
        {"Service": ""},
        {"A": [1] * 101},
        {"A": []},
        {"A": "1"},
        {"A": True},
        {"A": float("nan")},
        {"A": None},
    ],
)
def test_the_specification_tells_wrong_lines(change: dict[str, Any]) -> None:
    assert not faults(json.dumps(GOOD))
    assert faults(json.dumps(GOOD | change))
