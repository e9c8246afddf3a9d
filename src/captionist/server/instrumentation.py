"""Around every request: its id, a log line, its metrics, the security headers, and a 500 that reveals no secrets."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captionist.server.aws import trace_root
from captionist.server.observers import Observer
from captionist.server.problems import Problem
from captionist.server.request_ids import request_id
from captionist.server.security import HEADERS
from captionist.server.service import Service

if TYPE_CHECKING:  # needs an extra
    from captionist.server.tracing import RequestSpan, Tracing

_log = structlog.get_logger()
_QUIET = ("/health/live", "/health/ready", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Instrumentation:
    """ASGI middleware, the outermost."""

    def __init__(
        self, app: ASGIApp, service: Service, tracing: "Tracing | None", observers: Sequence[Observer]
    ) -> None:
        self._app, self._service, self._tracing, self._observers = app, service, tracing, observers
        self._telemetry = service.telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        state = scope.setdefault("state", {})
        headers = Headers(scope=scope)
        root = trace_root(headers)
        state["request_id"] = name = request_id(headers, root)
        status, sent = 500, 0

        async def observed_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered["X-Request-ID"] = name
                if self._service.stopping:  # so that no client sends another request while the connection ends
                    answered["Connection"] = "close"
                for header, value in HEADERS.items():
                    answered.setdefault(header, value)
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        span = self._tracing.begin(scope, headers, root) if self._tracing and scope["path"] not in _QUIET else None
        state["span"] = span
        trace_id = (span and span.trace_id) or root
        named = {"request_id": name} | ({"trace_id": trace_id} if trace_id and trace_id != name else {})
        with (
            span.current if span else nullcontext(),
            structlog.contextvars.bound_contextvars(**named),
            self._telemetry.in_flight.track_inprogress(),
        ):
            try:
                await self._app(scope, receive, observed_send)
            except Exception:
                _log.exception("a request failed")
                if status == 500 and not sent:
                    problem = Problem("internal", "It was logged under this request's id.")
                    await problem.response(Request(scope))(scope, receive, observed_send)
            finally:
                self._finish(scope, span, status, sent, time.monotonic() - begun)

    def _finish(self, scope: Scope, span: "RequestSpan | None", status: int, sent: int, seconds: float) -> None:
        state, path = scope["state"], scope["path"]
        route = state.get("route") or getattr(scope.get("route"), "path", None)
        route = route or ("/page" if path.startswith("/page/") else "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._telemetry.request(method, route, status, seconds)
        for observer in self._observers:
            observer.answered(method, route, status, seconds)
        if span:
            span.end(route, status, state.get("problem"))
        reason = state.get("rejection") or {401: "unauthorized", 429: "rate_limited"}.get(status)
        if reason:
            self._telemetry.rejected(reason)
        if status == 504:
            self._telemetry.abandoned("deadline")
        if state.get("disconnected"):
            self._telemetry.abandoned("disconnected")
        if path in _QUIET and status == 200:
            return
        client = scope.get("client")
        _log.info(
            "request",
            method=method,
            path=path[:200],
            route=route,
            status=status,
            milliseconds=round(1000 * seconds, 2),
            bytes_in=int(length) if (length := Headers(scope=scope).get("content-length", "0")).isdigit() else None,
            bytes_out=sent,
            address=client[0] if client else None,
            client=state.get("client"),
            problem=state.get("problem"),
        )
