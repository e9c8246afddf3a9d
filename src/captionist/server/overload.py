"""Overload should cost next to nothing: a request that cannot be accepted is refused before any other work."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from captionist.server.batching import Batcher, OverloadedError
from captionist.server.problems import Problem
from captionist.server.telemetry import CAPTION_ROUTES


class RefuseOverload:
    """ASGI middleware: refuses requests for captions while there is no room for even one picture."""

    def __init__(self, app: ASGIApp, batcher: Batcher) -> None:
        self._app, self._batcher = app, batcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in CAPTION_ROUTES:
            try:
                self._batcher.check_room()
            except OverloadedError as error:
                request = Request(scope)
                request.state.route = scope["path"]  # not routed yet
                await refusal(error, request).response(request)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def refusal(error: OverloadedError, request: Request) -> Problem:
    """Overload as an HTTP problem; the reason is noted for the metrics."""
    request.state.rejection = error.reason
    if error.reason == "stopping":
        return Problem("not-ready", "This service is stopping: send the request to another instance.", retry_after=1)
    return Problem("overloaded", "This service is full: try again later.", retry_after=error.retry_after)
