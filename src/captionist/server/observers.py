"""What runs beside the service and observes it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog

_log = structlog.get_logger()


class Observer:
    """Is told what the service does, and may do work of its own; each observer overrides the methods it needs.

    Its methods are called in the event loop that answers requests.
    """

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; method, route: as in the metrics."""

    async def run(self) -> None:
        """Work until cancelled, which happens once the service has finished what it accepted."""


@asynccontextmanager
async def at_work(observers: Iterable[Observer]) -> AsyncIterator[None]:
    """Runs observers for as long as the context lasts; if one fails, that is logged at the end, and stops nothing."""
    tasks = [asyncio.create_task(observer.run()) for observer in observers]
    yield
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            _log.error("a background task failed", exc_info=ended)
