"""Tasks started for one request, which end with it, or with its client."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

_Result = TypeVar("_Result")


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks, all of which have ended when the context does.

    If one fails, or the context itself, the others are cancelled, and its error is raised unchanged.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`; if the client goes away meanwhile, `work` is cancelled (ClientDisconnect).

    The request's body must have been read.
    """
    async with task_group() as group:
        watch = group.create_task(_disconnected(request))
        result = await work
        watch.cancel()
    return result


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
