"""Metrics for CloudWatch, among the lines of the log: its embedded metric format.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from captionist.bundle import BundleConfig
from captionist.captions import Caption
from captionist.server.batching import Batcher
from captionist.server.telemetry import CAPTION_ROUTES, Telemetry

_MOST_VALUES = 100  # of a metric in a line, by the specification
_NO_ROOM = ("queue_full", "deadline", "memory")
_UNITS = {"Latency": "Milliseconds", "Confidence": "None"}  # the others are counts


@dataclass(slots=True)
class _Interval:
    """What has happened since the last line."""

    begun: float
    waiting: float
    """Picture-seconds at its begin, as is `admitted`."""
    admitted: float
    requests: int = 0
    errors: int = 0
    rejections: int = 0
    captions: int = 0
    confidence: float = 0.0
    """Sum."""
    answered: int = 0
    latencies: list[float] = field(default_factory=list)
    """Milliseconds, of a random choice where too many were answered."""
    good: int = 0
    bad: int = 0
    store_failures: int = 0


class EmfTelemetry(Telemetry):
    """Telemetry that also sums up every interval in a line for CloudWatch."""

    def __init__(
        self,
        model: BundleConfig,
        version: str,
        *,
        interval: float,
        namespace: str,
        service: str,
        write: Callable[[str], None],
    ) -> None:
        """interval: seconds; namespace, service: where CloudWatch files the metrics, and its dimension."""
        super().__init__(model, version)
        self._seconds, self._namespace, self._service, self._write = interval, namespace, service, write
        self._batcher: Batcher | None = None
        self._interval = self._begin()

    async def run(self) -> None:
        """Write a line after every interval until cancelled, and then one for what is left."""
        due = time.monotonic() + self._seconds
        try:
            while True:
                await asyncio.sleep(due - time.monotonic())
                self._end()
                due += self._seconds
                if due < (now := time.monotonic()):  # after a stall, none for each interval that was missed
                    due = now + self._seconds
        finally:
            self._end()

    def watch(self, batcher: Batcher) -> None:
        super().watch(batcher)
        self._batcher = batcher
        self._interval = self._begin()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        super().request(method, route, status, seconds)
        if method != "POST" or route not in CAPTION_ROUTES:
            return
        self._interval.requests += 1
        self._interval.errors += status >= 500
        if status == 200:
            self._answered(1000 * seconds)

    def captioned(self, caption: Caption, decode: float, queue: float) -> None:
        super().captioned(caption, decode, queue)
        self._interval.captions += 1
        self._interval.confidence += caption.confidence

    def rejected(self, reason: str) -> None:
        super().rejected(reason)
        self._interval.rejections += reason in _NO_ROOM

    def feedback(self, rating: str, corrected: bool, model: str, version: str) -> None:
        super().feedback(rating, corrected, model, version)
        self._interval.good += rating == "good"
        self._interval.bad += rating == "bad"

    def store_failed(self) -> None:
        super().store_failed()
        self._interval.store_failures += 1

    def _answered(self, milliseconds: float) -> None:
        """Keep each of those answered so far with the same probability (Vitter 1985, algorithm R)."""
        kept, self._interval.answered = self._interval.latencies, self._interval.answered + 1
        if len(kept) < _MOST_VALUES:
            kept.append(round(milliseconds, 2))
        elif (place := random.randrange(self._interval.answered)) < _MOST_VALUES:
            kept[place] = round(milliseconds, 2)

    def _begin(self) -> _Interval:
        return _Interval(time.monotonic(), *(self._batcher.areas() if self._batcher else (0.0, 0.0)))

    def _end(self) -> None:
        ended, self._interval = self._interval, self._begin()
        self._write(self._line(ended, self._interval))

    def _line(self, ended: _Interval, following: _Interval) -> str:
        seconds = max(following.begun - ended.begun, 1e-6)
        values: dict[str, Any] = {
            "QueueDepth": round((following.waiting - ended.waiting) / seconds, 3),
            "Admitted": round((following.admitted - ended.admitted) / seconds, 3),
            "Captions": ended.captions,
            "Requests": ended.requests,
            "Errors": ended.errors,
            "Rejections": ended.rejections,
            "FeedbackGood": ended.good,
            "FeedbackBad": ended.bad,
            "FeedbackStoreFailures": ended.store_failures,
        }
        if ended.latencies:
            values["Latency"] = ended.latencies
        if ended.captions:
            values["Confidence"] = round(ended.confidence / ended.captions, 4)
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [["Service"]],
            "Metrics": [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in values],
        }
        metadata = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": metadata, "Service": self._service, **values})
