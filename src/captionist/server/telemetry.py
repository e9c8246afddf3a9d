"""Metrics for Prometheus."""

import platform
from collections import deque

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from captionist.bundle import BundleConfig
from captionist.captions import Caption
from captionist.server.batching import Batcher

CAPTION_ROUTES = ("/v1/captions", "/v1/chat/completions", "/api/generate", "/api/chat")
"""A POST to any of them describes pictures."""
REJECTIONS = ("queue_full", "deadline", "stopping", "memory", "rate_limited", "unauthorized")
_STAGES = ("decode", "queue", "encode", "generate")
_RECENT = 200
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """The service's metrics, in their own registry; names follow Prometheus's conventions, in base units."""

    def __init__(self, model: BundleConfig, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = self._counter("http_requests", "Requests answered", "method", "route", "status")
        self._duration = self._histogram(
            "http_request_duration_seconds", "From header to answer", _SECONDS, "route", "status"
        )
        self.in_flight = self._gauge("http_requests_in_flight", "Requests that are being answered")
        self._stage = self._histogram(
            "stage_duration_seconds", "Duration of each stage of captioning a picture", _SECONDS, "stage"
        )
        self._batch = self._histogram("batch_size_pictures", "Pictures in a run of the engine", (1, 2, 4, 8, 16, 32))
        self._rejected = self._counter("rejections", "Requests refused without being tried", "reason")
        self._abandoned = self._counter("abandoned_requests", "Requests given up", "reason")
        self._pictures = self._counter("pictures", "Pictures received, by outcome", "outcome")
        self._words = self._histogram("caption_words", "Length of captions", (2, 4, 6, 8, 10, 12, 15, 20, 30))
        self._log_probability = self._histogram(
            "caption_log_probability", "Natural logarithm", (-40, -30, -20, -15, -12, -10, -8, -6, -4, -2, 0)
        )
        self._confidence = self._histogram(
            "caption_confidence_ratio", "Estimated chance that a person would accept", [n / 10 for n in range(1, 11)]
        )
        self._recent: deque[str] = deque(maxlen=_RECENT)
        repeated = self._gauge(
            "repeated_captions_ratio", f"Share of the last {_RECENT} captions that are not the first"
        )
        repeated.set_function(self._repeated)
        self._feedback = self._counter(
            "feedback", "Feedback stored, by the model that wrote the caption", "rating", "model", "model_version"
        )
        self._corrections = self._counter(
            "feedback_corrections", "Feedback that came with a correction", "model", "model_version"
        )
        self._store_failures = self._counter("feedback_store_failures", "Feedback that could not be stored or read")
        info = self._gauge("build_info", "Always 1", "version", "python", "model", "model_version", "precision")
        info.labels(version, platform.python_version(), model.name, model.version, model.precision).set(1)
        # What has not happened yet should read 0 and not be missing: otherwise a rate over it has no data.
        for stage in _STAGES:
            self._stage.labels(stage)
        for reason in REJECTIONS:
            self._rejected.labels(reason)
        for reason in ("deadline", "disconnected"):
            self._abandoned.labels(reason)
        for outcome in ("captioned", "refused"):
            self._pictures.labels(outcome)
        for rating in ("good", "bad"):
            self._feedback.labels(rating, model.name, model.version)
        self._corrections.labels(model.name, model.version)
        for route, usual in (*((route, "200") for route in CAPTION_ROUTES), ("/v1/feedback", "201")):
            for status in (usual, "422", "500", "503", "504"):
                self._requests.labels("POST", route, status)
                self._duration.labels(route, status)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"captionist_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"captionist_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: "tuple[float, ...] | list[float]", *labels: str) -> Histogram:
        return Histogram(f"captionist_{name}", text, labels, registry=self.registry, buckets=buckets)

    def watch(self, batcher: Batcher) -> None:
        """Read the batcher's gauges at every scrape."""
        self._gauge("queue_depth_pictures", "Pictures that wait for the engine").set_function(lambda: batcher.waiting)
        self._gauge("admitted_pictures", "Pictures admitted and not finished").set_function(lambda: batcher.admitted)
        self._gauge("ready", "1 while the service accepts requests").set_function(lambda: batcher.ready)
        self._gauge("queue_limit_pictures", "Most pictures admitted at once").set(batcher.max_queue)
        self._gauge("batch_limit_pictures", "Most pictures in a run of the engine").set(batcher.max_batch)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._duration.labels(route, str(status)).observe(seconds)

    def batch(self, size: int, encode: float, generate: float) -> None:
        """The engine ran a batch. size: pictures; encode, generate: seconds."""
        self._batch.observe(size)
        self._stage.labels("encode").observe(encode)
        self._stage.labels("generate").observe(generate)

    def captioned(self, caption: Caption, decode: float, queue: float) -> None:
        """A picture was described."""
        self._pictures.labels("captioned").inc()
        self._stage.labels("decode").observe(decode)
        self._stage.labels("queue").observe(queue)
        self._words.observe(len(caption.text.split()))
        self._recent.append(caption.text)
        self._log_probability.observe(caption.log_probability)
        self._confidence.observe(caption.confidence)

    def _repeated(self) -> float:
        """A model that says the same about every picture has stopped looking; its other figures may still seem fine."""
        return 1 - len(set(self._recent)) / len(self._recent) if self._recent else 0.0

    def refused_picture(self) -> None:
        """A picture could not be read."""
        self._pictures.labels("refused").inc()

    def rejected(self, reason: str) -> None:
        """A request was refused without being tried; reason: one of REJECTIONS."""
        self._rejected.labels(reason).inc()

    def abandoned(self, reason: str) -> None:
        """A request was given up: "deadline" or "disconnected"."""
        self._abandoned.labels(reason).inc()

    def feedback(self, rating: str, corrected: bool, model: str, version: str) -> None:
        """Feedback was stored; model, version: the caption's, which another replica may have written."""
        self._feedback.labels(rating, model, version).inc()
        if corrected:
            self._corrections.labels(model, version).inc()

    def store_failed(self) -> None:
        """The feedback store did not answer as it should."""
        self._store_failures.inc()

    def exposition(self) -> bytes:
        """What a scrape gets, in Prometheus's text format."""
        return generate_latest(self.registry)
