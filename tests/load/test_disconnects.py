"""Clients that hang up in mid-request."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from harness.load import Answer, client, connected
from harness.pictures import EXAMPLES
from harness.requests import post
from tests.load.ask import send
from tests.load.conftest import Start

pytestmark = pytest.mark.load


def test_a_request_whose_client_is_gone_costs_no_inference(start: Start, caption: bytes) -> None:
    service = start(max_batch=2)
    slow = post("/v1/captions?num_beams=10", (EXAMPLES / "dog.jpg").read_bytes(), "image/jpeg")

    async def run() -> list[Answer]:
        async with client(service.port) as staying, AsyncExitStack() as leaving:
            waiting = [asyncio.create_task(staying.send(slow)) for _ in range(24)]
            while service.metric("captionist_admitted_pictures") < 24:
                await asyncio.sleep(0.001)
            for _ in range(20):
                connection = await leaving.enter_async_context(connected(service.port))
                connection.write(caption)
            # Decoded, and waiting for the engine behind those that stay.
            while service.metric("captionist_queue_depth_pictures") < 24:
                await asyncio.sleep(0.001)
            await leaving.aclose()
            return await asyncio.gather(*waiting)

    assert [answer.status for answer in asyncio.run(run())] == [200] * 24
    assert asyncio.run(send(service.port, caption)).status == 200  # after all that was queued
    assert service.metric("captionist_abandoned_requests_total", reason="disconnected") == 20
    assert service.metric("captionist_batch_size_pictures_sum") == 24 + 1
    assert service.metric("captionist_admitted_pictures") == 0
    assert service.metric("captionist_http_requests_in_flight") == 1  # that of the metrics themselves
