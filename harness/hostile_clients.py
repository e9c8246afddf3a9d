"""Clients that no service wants: they dawdle, hang up and send bombs. All on loopback, all limited in time."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.load import Connection, connect


@dataclass(slots=True)
class Tally:
    """The results of hostile clients. answered: those that dawdled with their body and got a status for it."""

    slow_headers: int = 0
    cut_off: int = 0
    slow_bodies: int = 0
    answered: int = 0
    hung_up: int = 0


async def slow_headers(port: int, until: float, tally: Tally) -> None:
    """One connection after the other, each sending a header line a second and never the last one."""
    while time.monotonic() < until:
        connection = await connect(port)
        tally.slow_headers += 1
        connection.write(b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\n")
        while connection.open and time.monotonic() < until:
            await asyncio.sleep(1)
            connection.write(b"X-Slow: 1\r\n")
        tally.cut_off += not connection.open
        connection.close()


async def slow_bodies(port: int, until: float, tally: Tally, announced: int = 50_000) -> None:
    """One connection after the other, each sending a hundred bytes of its body a second."""
    head = (
        f"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {announced}\r\n"
    )
    while time.monotonic() < until:
        connection = await connect(port)
        tally.slow_bodies += 1
        answer = asyncio.ensure_future(connection.send(head.encode() + b"\r\n"))
        while not answer.done() and time.monotonic() < until:
            await asyncio.wait((answer,), timeout=1)
            connection.write(bytes(100))
        if answer.done():
            tally.answered += answer.result().status > 0
        else:
            answer.cancel()
        connection.close()
        await asyncio.sleep(0.2)  # if refused at once, it would be back at once


async def hang_ups(
    port: int, until: float, tally: Tally, requests: Sequence[bytes], rate: float, chance: random.Random
) -> None:
    """This many clients per second that send their request, or half of it, and hang up within 300 ms."""
    async with asyncio.TaskGroup() as group:
        while time.monotonic() < until:
            request = chance.choice(requests)
            whole = chance.random() < 0.7
            group.create_task(_hang_up(port, request if whole else request[: len(request) // 2], chance.random() * 0.3))
            tally.hung_up += 1
            await asyncio.sleep(chance.expovariate(rate))


async def _hang_up(port: int, data: bytes, seconds: float) -> None:
    connection: Connection = await connect(port)
    connection.write(data)
    await asyncio.sleep(seconds)
    connection.close()
