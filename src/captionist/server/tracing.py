"""Traces for OpenTelemetry: a span for every request, and below it one for each stage of every picture.

Imported only if `Settings.traces` is set, since it needs the extra `otel`. OpenTelemetry's own environment variables
(OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, ...) decide where spans go, and which.
"""

import asyncio
import os
import threading
from itertools import pairwise

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import Scope

from captionist import __version__
from captionist.server.aws import TRACE_HEADER
from captionist.server.batching import Described
from captionist.server.observers import Observer

_LONGEST = 200
_PATIENCE = 2.0  # seconds for the last spans to leave, since whoever stopped us waits
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY"})
_STAGES = ("decode", "queue", "encode", "generate")


class _Ids(RandomIdGenerator):
    """Makes random ids, unless a load balancer has already named the trace."""

    given: int | None = None

    def generate_trace_id(self) -> int:
        return self.given or super().generate_trace_id()


class RequestSpan:
    """A request's span; inside its context `current`, others begin below it."""

    def __init__(self, tracer: Tracer, span: Span, method: str) -> None:
        self._tracer, self._span, self._method = tracer, span, method
        self.current = use_span(span, record_exception=False, set_status_on_exception=False)

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None if OpenTelemetry is disabled."""
        found = self._span.get_span_context().trace_id
        return f"{found:032x}" if found else None

    def stages(self, begun: int, number: int, described: Described) -> None:
        """How a picture's time was spent, as spans below this one.

        begun: UNIX nanoseconds; number: the picture's index in the request.
        """
        at = [begun]
        for stage in _STAGES:
            at.append(at[-1] + round(1e9 * getattr(described, stage)))
        for stage, (start, end) in zip(_STAGES, pairwise(at), strict=True):
            attributes = {"captionist.picture": number}
            if stage in ("encode", "generate"):  # these are the whole batch's
                attributes["captionist.batch_size"] = described.batch
            self._tracer.start_span(stage, attributes=attributes, start_time=start).end(end)

    def end(self, route: str, status: int, problem: str | None) -> None:
        """The request was answered; route: as in the metrics."""
        known = self._method in _METHODS
        self._span.set_attribute("http.request.method", self._method if known else "_OTHER")
        if not known:
            self._span.set_attribute("http.request.method_original", self._method)
        matched = "" if route == "unmatched" else route
        self._span.update_name(f"{self._method if known else 'HTTP'} {matched}".rstrip())
        if matched:
            self._span.set_attribute("http.route", matched)
        if problem:
            self._span.set_attribute("captionist.problem", problem)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing(Observer):
    """Makes spans and sends them in the background."""

    def __init__(self, service_name: str) -> None:
        """service_name: the name of this service in traces, unless OTEL_SERVICE_NAME says otherwise."""
        name = os.environ.get("OTEL_SERVICE_NAME") or service_name
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": name, "service.version": __version__}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("captionist", __version__)
        # The last one wins: a traceparent is the client's own, but a load balancer makes its header up.
        self._propagator = CompositePropagator([AwsXRayPropagator(), TraceContextTextMapPropagator()])

    def begin(self, scope: Scope, headers: Headers, root: str | None) -> RequestSpan:
        """A request's span, below its client's if it names one; root: see `aws.trace_root`."""
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        if root:
            carrier[TRACE_HEADER] = headers[TRACE_HEADER]
        self._ids.given = int(root[2:].replace("-", ""), 16) if root else None
        method, client = scope["method"][:_LONGEST], scope.get("client")
        attributes = {
            "url.scheme": scope["scheme"],
            "url.path": scope["path"][:_LONGEST],
            "network.protocol.version": scope["http_version"],
            "client.address": client[0] if client else None,
            "user_agent.original": headers.get("user-agent", "")[:_LONGEST] or None,
        }
        span = self._tracer.start_span(
            method,
            self._propagator.extract(carrier, Context()),
            SpanKind.SERVER,
            {name: value for name, value in attributes.items() if value is not None},
        )
        return RequestSpan(self._tracer, span, method)

    async def run(self) -> None:
        """Wait until cancelled, then send what is left, if the collector takes it in time."""
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_PATIENCE)
