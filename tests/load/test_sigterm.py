"""SIGTERM while requests are under way."""

import asyncio
import subprocess
import time

import pytest

from harness.load import UNANSWERED, Answer, client, connected
from harness.processes import Service
from harness.requests import post
from tests.load.ask import SECRET, comments, feedback, send
from tests.load.conftest import Start

pytestmark = pytest.mark.load
GRACE = 60.0  # seconds; as long as a busy machine may need for what it was asked, and so is each request's deadline


def test_what_was_accepted_is_answered_no_new_connection_is_taken_and_the_exit_code_is_0(
    start: Start, caption: bytes
) -> None:
    service = start(grace_period=GRACE, deadline=GRACE)

    async def run() -> tuple[list[Answer], Answer]:
        async with client(service.port) as connections:
            waiting = [asyncio.create_task(connections.send(caption)) for _ in range(40)]
            while service.metric("captionist_admitted_pictures") < 40:
                await asyncio.sleep(0.01)
            service.process.terminate()
            await asyncio.sleep(0.2)
            late = await send(service.port, caption)
            return await asyncio.gather(*waiting), late

    answers, late = asyncio.run(run())
    assert late.status == UNANSWERED
    begun = time.monotonic()
    assert service.process.wait(GRACE) == 0
    assert time.monotonic() - begun < GRACE
    assert [answer.status for answer in answers] == [200] * 40


def test_clients_that_go_on_asking_lose_no_request_that_was_accepted(start: Start, caption: bytes) -> None:
    """Each waits for its answer and asks again; after SIGTERM it may find nobody, but never half an answer."""
    service = start(grace_period=GRACE, deadline=GRACE)

    async def one(stopped: asyncio.Event) -> list[Answer]:
        answers: list[Answer] = []
        async with connected(service.port) as connection:
            while connection.open:
                answers.append(await connection.send(caption))
        assert stopped.is_set()
        return answers

    async def run() -> list[list[Answer]]:
        stopped = asyncio.Event()
        clients = [asyncio.create_task(one(stopped)) for _ in range(16)]
        await asyncio.sleep(3)
        stopped.set()
        service.process.terminate()
        return await asyncio.gather(*clients)

    told = asyncio.run(run())
    assert service.process.wait(GRACE) == 0
    for answers in told:
        assert all(answer.status == 200 for answer in answers[:-1])
        assert answers[-1].status in (200, 503, UNANSWERED)  # unanswered: sent as the idle connection was closed
        assert not answers[-1].body or answers[-1].status != UNANSWERED
    assert sum(answers[-1].status == 200 for answers in told) >= 8  # a whole batch at least was under way


def test_acknowledged_feedback_outlives_it(start: Start) -> None:
    service = start(grace_period=GRACE, secret=SECRET)

    async def run() -> list[Answer]:
        async with client(service.port) as connections:
            waiting = [asyncio.create_task(connections.send(feedback(str(number)))) for number in range(40)]
            await asyncio.sleep(0.05)
            service.process.terminate()
            return await asyncio.gather(*waiting)

    answers = asyncio.run(run())
    assert service.process.wait(GRACE) == 0
    acknowledged = {str(number) for number, answer in enumerate(answers) if answer.status == 201}
    again = start(data_dir=service.data_dir)
    assert acknowledged <= set(comments(again.get("/v1/feedback/export")[1]))


def test_slow_clients_do_not_outlast_the_grace_period(start: Start) -> None:
    service = start(grace_period=3, body_timeout=60)

    async def run() -> int:
        async with connected(service.port) as body, connected(service.port) as headers:
            body.write(post("/v1/captions", bytes(1000), "image/jpeg")[:-500])
            headers.write(b"POST /v1/captions HTTP/1.1\r\n")
            await asyncio.sleep(0.5)
            return await asyncio.to_thread(_terminate, service, 15)

    assert asyncio.run(run()) == 0


def _terminate(service: Service, timeout: float) -> int:
    try:
        return service.terminate(timeout)
    except subprocess.TimeoutExpired:
        return -1
