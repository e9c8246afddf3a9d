"""Work for a client that may go away."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from captionist.server.task_groups import task_group

_Result = TypeVar("_Result")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is cancelled if the client goes away meanwhile (ClientDisconnect).

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
