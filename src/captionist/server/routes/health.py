"""Whether the service lives, whether it is ready, and its metrics."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from captionist.server.problems import Problem, responses
from captionist.server.service import ServiceDep

router = APIRouter(tags=["operations"])


_OPEN: dict[str, Any] = {"security": []}


@router.get(
    "/health/live",
    summary="Whether the process works",
    response_description="It does",
    responses=responses("internal"),
    openapi_extra=_OPEN,
)
async def live(service: ServiceDep) -> dict[str, str]:
    """Answers while the event loop runs and the engine's threads are alive. A process that does not answer, or answers
    with an error, should be restarted.
    """
    if not (service.batcher.alive or service.batcher.closing):
        raise Problem("internal", "A thread of the engine has ended: restart the service.")
    return {"status": "live"}


@router.get(
    "/health/ready",
    summary="Whether requests are taken",
    response_description="They are",
    responses=responses("not-ready", "internal"),
    openapi_extra=_OPEN,
)
async def ready(service: ServiceDep) -> dict[str, str]:
    """Ready from the first caption until the process is told to stop. If only the feedback database is down, it stays
    ready, since captions do not need the database.
    """
    if not service.batcher.ready:
        reason = "The service is stopping" if service.batcher.closing else "A thread of the engine has ended"
        raise Problem("not-ready", f"{reason}: send the request to another instance.", retry_after=1)
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **responses("unauthorized", "forbidden", "rate-limited", "internal"),
    },
)
async def metrics(request: Request, service: ServiceDep) -> Response:
    """In Prometheus's text format; requests from other machines need an administrator's key."""
    service.gatekeeper.admit_scraper(request)
    return Response(service.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
