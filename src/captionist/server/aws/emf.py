"""Metrics for CloudWatch, in lines of the log: its embedded metric format.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from captionist.server.batching import Batcher
from captionist.server.observers import Observer
from captionist.server.telemetry import CAPTION_ROUTES

_MOST_VALUES = 100  # per metric and line, by the specification
_UNITS = {"Latency": "Milliseconds", "Confidence": "None"}  # the others are counts
_CAPTIONS: dict[str, Collection[str]] = {"method": ("POST",), "route": CAPTION_ROUTES}
# CloudWatch's counts, and the Prometheus samples that each sums up: their name, and their labels.
_COUNTS: dict[str, tuple[str, dict[str, Collection[str]]]] = {
    "Captions": ("pictures_total", {"outcome": ("captioned",)}),
    "Requests": ("http_requests_total", _CAPTIONS),
    "Errors": ("http_requests_total", {**_CAPTIONS, "status": [str(status) for status in range(500, 600)]}),
    "Rejections": ("rejections_total", {"reason": ("queue_full", "deadline", "memory")}),
    "FeedbackGood": ("feedback_total", {"rating": ("good",)}),
    "FeedbackBad": ("feedback_total", {"rating": ("bad",)}),
    "FeedbackStoreFailures": ("feedback_store_failures_total", {}),
}
_CONFIDENCE = "caption_confidence_ratio_sum"
_SOURCES = [f"captionist_{name}" for name in (_CONFIDENCE, *(name for name, _ in _COUNTS.values()))]


class _Reading(NamedTuple):
    """The readings, at one time, of everything that only grows."""

    at: float
    waiting: float
    """Picture-seconds, as in `admitted`."""
    admitted: float
    confidence: float
    counts: dict[str, int]


class EmbeddedMetrics(Observer):
    """Sums up each interval in a line for CloudWatch."""

    def __init__(
        self,
        registry: CollectorRegistry,
        batcher: Batcher,
        write: Callable[[str], None],
        *,
        interval: float,
        namespace: str,
        service: str,
    ) -> None:
        """registry: of `Telemetry`; interval: seconds; namespace: where CloudWatch files the metrics; service: their
        dimension.
        """
        self._registry, self._batcher, self._write = registry, batcher, write
        self._seconds, self._namespace, self._service = interval, namespace, service
        self._latencies: list[float] = []
        self._answered = 0
        self._last = self._read()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        if method != "POST" or route not in CAPTION_ROUTES or status != 200:
            return
        # Every latency so far is kept with the same probability (Vitter 1985, algorithm R).
        self._answered += 1
        milliseconds = round(1000 * seconds, 2)
        if len(self._latencies) < _MOST_VALUES:
            self._latencies.append(milliseconds)
        elif (place := random.randrange(self._answered)) < _MOST_VALUES:
            self._latencies[place] = milliseconds

    async def run(self) -> None:
        """Write a line after every interval until cancelled, and then one for the rest."""
        due = time.monotonic() + self._seconds
        try:
            while True:
                await asyncio.sleep(due - time.monotonic())
                self._end_interval()
                due += self._seconds
                if due < (now := time.monotonic()):  # after a stall, skip the missed intervals
                    due = now + self._seconds
        finally:
            self._end_interval()

    def _read(self) -> _Reading:
        counts, confidence = dict.fromkeys(_COUNTS, 0.0), 0.0
        for metric in self._registry.restricted_registry(_SOURCES).collect():
            for sample in metric.samples:
                source = sample.name.removeprefix("captionist_")
                confidence += sample.value if source == _CONFIDENCE else 0.0
                for name, (wanted, labels) in _COUNTS.items():
                    if source == wanted and all(sample.labels[label] in among for label, among in labels.items()):
                        counts[name] += sample.value
        whole = {name: int(count) for name, count in counts.items()}
        return _Reading(time.monotonic(), *self._batcher.areas(), confidence, whole)

    def _end_interval(self) -> None:
        begun, self._last = self._last, self._read()
        latencies, self._latencies, self._answered = self._latencies, [], 0
        self._write(self._line(begun, self._last, latencies))

    def _line(self, begun: _Reading, ended: _Reading, latencies: list[float]) -> str:
        seconds = max(ended.at - begun.at, 1e-6)
        counts = {name: count - begun.counts[name] for name, count in ended.counts.items()}
        values: dict[str, Any] = {
            "QueueDepth": round((ended.waiting - begun.waiting) / seconds, 3),
            "Admitted": round((ended.admitted - begun.admitted) / seconds, 3),
            **counts,
        }
        if latencies:
            values["Latency"] = latencies
        if counts["Captions"]:
            values["Confidence"] = round((ended.confidence - begun.confidence) / counts["Captions"], 4)
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [["Service"]],
            "Metrics": [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in values],
        }
        metadata = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": metadata, "Service": self._service, **values})
