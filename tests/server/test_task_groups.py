"""Tasks that are started for one request."""

import asyncio
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from captionist.server.task_groups import task_group, unless_disconnected


def test_the_others_have_ended_when_the_first_error_is_told() -> None:
    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("long")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("bad")

    async def both() -> None:
        async with task_group() as group:
            group.create_task(long())
            group.create_task(fails())

    async def run() -> None:
        with pytest.raises(KeyError, match="bad"):
            await both()
        assert ended == ["long"]

    asyncio.run(run())


def test_work_ends_with_its_client() -> None:
    async def run() -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def work(result: int | Exception | None) -> int:
            if isinstance(result, Exception):
                raise result
            if result is None:
                gone.set()
                await asyncio.Event().wait()
            return result or 0

        request = Request({"type": "http"}, receive)
        assert await unless_disconnected(request, work(7)) == 7
        with pytest.raises(MemoryError):
            await unless_disconnected(request, work(MemoryError()))
        with pytest.raises(ClientDisconnect):
            await unless_disconnected(request, work(None))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
