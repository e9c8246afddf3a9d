"""Around every request: its id, one log line, its metrics, the safe headers, and a 500 that tells no secrets."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captionist.server.problems import Problem
from captionist.server.security import HEADERS
from captionist.server.telemetry import Telemetry

_log = structlog.get_logger()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._=:;-]{1,128}")
_QUIET = ("/health/live", "/health/ready", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observe:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app, self._telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(scope)
        status, sent = 500, 0

        async def observed_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
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
                self._finish(scope, status, sent, time.monotonic() - begun)

    def _finish(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        state, path = scope["state"], scope["path"]
        route = state.get("route") or getattr(scope.get("route"), "path", None)
        route = route or ("/page" if path.startswith("/page/") else "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._telemetry.request(method, route, status, seconds)
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


def _request_id(scope: Scope) -> str:
    """The id that a proxy gave the request, where it is harmless to repeat; else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
