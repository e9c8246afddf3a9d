"""More requests than there is room for."""

import asyncio

import pytest

from harness.load import Answer, client
from harness.pictures import EXAMPLES
from harness.requests import post
from tests.load.ask import problem
from tests.load.conftest import Start

pytestmark = pytest.mark.load


def test_a_full_queue_refuses_at_once(start: Start, caption: bytes) -> None:
    service = start(max_queue=8, max_batch=4)

    async def run() -> tuple[list[Answer], list[Answer]]:
        async with client(service.port) as connections:
            waiting = [asyncio.create_task(connections.send(caption)) for _ in range(8)]
            while service.metric("captionist_admitted_pictures") < 8:
                await asyncio.sleep(0.001)
            refused = await asyncio.gather(*(connections.send(caption) for _ in range(50)))
            before = [answer for answer in refused if answer.status == 503]
            return before, await asyncio.gather(*waiting)

    refused, accepted = asyncio.run(run())
    assert [answer.status for answer in accepted] == [200] * 8
    assert len(refused) >= 25  # the first of the eight may be done meanwhile
    for answer in refused:
        problem(answer, 503, "overloaded")
    # At once: before those that were there first got their answers.
    first_done = min(answer.sent + answer.seconds for answer in accepted)
    assert sum(answer.sent + answer.seconds < first_done for answer in refused) > len(refused) // 2
    assert service.metric("captionist_rejections_total", reason="queue_full") >= len(refused)
    assert service.metric("captionist_admitted_pictures") == 0


def test_more_work_than_fits_the_deadline_is_refused_or_given_up_and_the_rest_is_done(start: Start) -> None:
    service = start(deadline=5, max_queue=1000)
    slow = post("/v1/captions?num_beams=10", (EXAMPLES / "dog.jpg").read_bytes(), "image/jpeg")

    async def run() -> list[Answer]:
        async with client(service.port) as connections:
            return await asyncio.gather(*(connections.send(slow) for _ in range(250)))

    answers = asyncio.run(run())
    statuses = {answer.status for answer in answers}
    assert statuses <= {200, 503, 504}
    assert 200 in statuses
    for answer in answers:
        if answer.status == 504:
            problem(answer, 504, "deadline-exceeded")
        if answer.status == 503:
            problem(answer, 503, "overloaded")
    assert service.get("/health/ready")[0] == 200
    assert service.metric("captionist_admitted_pictures") == 0
