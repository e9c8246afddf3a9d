"""Clients that send slowly, or announce more than they send, beside one that does not."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from harness.hostile_clients import Tally, slow_bodies, slow_headers
from harness.load import Answer, client, connected
from tests.load.ask import send
from tests.load.conftest import Start

pytestmark = pytest.mark.load


def test_slow_headers_hinder_nobody_and_slow_bodies_are_cut_off(start: Start, caption: bytes) -> None:
    service = start(body_timeout=3)

    async def run() -> tuple[Tally, list[Answer]]:
        tally, until, answers = Tally(), time.monotonic() + 12, list[Answer]()
        async with asyncio.TaskGroup() as group, client(service.port) as connections:
            for _ in range(40):
                group.create_task(slow_headers(service.port, until, tally))
                group.create_task(slow_bodies(service.port, until, tally))
            while time.monotonic() < until:
                answers.append(await connections.send(caption))
        return tally, answers

    tally, answers = asyncio.run(run())
    assert {answer.status for answer in answers} == {200}
    assert tally.slow_headers == 40  # how long they may take is up to the proxy in front
    assert tally.answered >= 40
    assert service.metric("captionist_http_requests_total", status="408") >= 40


@pytest.mark.parametrize("count", [1, 20])
def test_a_body_that_is_only_announced_takes_no_room(start: Start, caption: bytes, count: int) -> None:
    service = start(body_timeout=20, max_inflight_bytes=10_000_000)
    head = f"POST /v1/captions HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: {10_000_000}\r\n\r\n"

    async def run() -> Answer:
        async with AsyncExitStack() as stack:
            for _ in range(count):
                connection = await stack.enter_async_context(connected(service.port))
                connection.write(head.encode() + bytes(1000))
            await asyncio.sleep(0.5)
            return await send(service.port, caption)

    assert asyncio.run(run()).status == 200
