"""A load generator that costs little time itself, since it shares the machine with what it measures.

Requests are bytes made in advance, and answers are looked at no further than needed; `Load.cpu_seconds` says what it
cost. Everything goes to loopback.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from harness.processes import HOST, own_cpu_seconds

UNANSWERED = 0
"""The status of a request whose connection ended, or that waited too long, without a whole answer."""
_TOGETHER = 0.03  # seconds within which the answers of one batch arrive
_PATIENCE = 60.0  # seconds for an answer; longer than any deadline


@dataclass(frozen=True, slots=True)
class Answer:
    """seconds: from the first byte sent to the last one received."""

    status: int
    head: bytes
    body: bytes
    sent: float
    seconds: float

    def header(self, name: str) -> str | None:
        """A header's value."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode()
        return None


@dataclass(slots=True)
class Load:
    """The results of a load. begun, ended: time.monotonic() of what counts; requests outside were for warming up."""

    begun: float = 0.0
    ended: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    cpu_seconds: float = 0.0
    late: int = 0
    """Requests that the generator sent more than 50 ms after they were due."""

    @property
    def statuses(self) -> dict[int, int]:
        return dict(sorted(Counter(answer.status for answer in self.answers).items()))

    @property
    def goodput(self) -> float:
        """Answers with status 200 per second."""
        done = (answer.sent + answer.seconds for answer in self.answers if answer.status == 200)
        return throughput([moment for moment in done if self.begun <= moment < self.ended])

    def milliseconds(self, quantile: float, statuses: Sequence[int] = (200,)) -> float:
        """A quantile of the time that requests with these statuses took; nan if there are none."""
        times = [answer.seconds for answer in self.answers if answer.status in statuses and answer.sent >= self.begun]
        return 1000 * float(np.quantile(times, quantile)) if times else float("nan")


def throughput(moments: Sequence[float]) -> float:
    """How often per second something was done, given the moments at which it was done, several at a time.

    Batches end together, so a count over a fixed time would jump by a batch. Instead, time runs from the end of the
    first batch to the end of the last, and the first one is not counted.
    """
    if len(moments) < 2:
        return 0.0
    first, last = min(moments), max(moments)
    return sum(moment > first + _TOGETHER for moment in moments) / max(last - first, _TOGETHER)


class Connection(asyncio.Protocol):
    """A connection that is kept alive, with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiter: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = bytes(self._received).partition(b"\r\n\r\n")
        if not blank:
            return
        length = _content_length(head)
        if len(body) >= length and self._waiter and not self._waiter.done():
            self._received.clear()
            if b"connection: close" in head.lower():
                self.open = False
            self._waiter.set_result((int(head[9:12]), head, body[:length]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.open = False
        if self._waiter and not self._waiter.done():
            self._waiter.set_result((UNANSWERED, b"", bytes(self._received)))

    async def send(self, request: bytes) -> Answer:
        """Send a request and wait for its answer."""
        assert self._transport
        self._waiter = asyncio.get_running_loop().create_future()
        sent = time.monotonic()
        self._transport.write(request)
        try:
            status, head, body = await asyncio.wait_for(self._waiter, _PATIENCE)
        except TimeoutError:
            status, head, body = UNANSWERED, b"", b""
            self.close()
        return Answer(status, head, body, sent, time.monotonic() - sent)

    def write(self, data: bytes) -> None:
        """Send bytes without waiting for anything."""
        if self._transport and self.open:
            self._transport.write(data)

    def close(self) -> None:
        """Hang up at once."""
        self.open = False
        if self._transport:
            self._transport.abort()


async def connect(port: int) -> Connection:
    """A new connection to loopback."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, HOST, port)
    return connection


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A new connection, closed at the end."""
    connection = await connect(port)
    try:
        yield connection
    finally:
        connection.close()


class Client:
    """Sends requests over connections that it keeps open, as many as there are simultaneous requests."""

    def __init__(self, port: int) -> None:
        self._port, self._idle, self._all = port, list[Connection](), list[Connection]()

    async def send(self, request: bytes) -> Answer:
        """Send one request. If the server closed a kept connection, that is no failure: the request gets a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                break
        else:
            try:
                connection = await connect(self._port)
            except OSError:
                return Answer(UNANSWERED, b"", b"", time.monotonic(), 0.0)
            self._all.append(connection)
        answer = await connection.send(request)
        if connection.open:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        for connection in self._all:
            connection.close()


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    """A client whose connections are closed at the end."""
    made = Client(port)
    try:
        yield made
    finally:
        made.close()


async def closed_loop(port: int, requests: Sequence[bytes], clients: int, seconds: float, warm_up: float = 1.0) -> Load:
    """This many clients, each sending its next request when the last one was answered."""
    load = Load(begun=time.monotonic() + warm_up)
    load.ended = load.begun + seconds

    async def one(number: int) -> None:
        async with client(port) as connections:
            place = number
            while time.monotonic() < load.ended:
                load.answers.append(await connections.send(requests[place % len(requests)]))
                place += clients

    with _timed(load):
        await asyncio.gather(*(one(number) for number in range(clients)))
    return load


async def open_loop(
    port: int, choose: Callable[[random.Random], bytes], rate: float, seconds: float, seed: int = 0
) -> Load:
    """Requests at random moments (Poisson), at this rate per second, whether or not the server keeps up."""
    chance = random.Random(seed)
    load = Load(begun=time.monotonic())
    load.ended = load.begun + seconds
    with _timed(load):
        async with client(port) as connections, asyncio.TaskGroup() as group:

            async def one(request: bytes) -> None:
                load.answers.append(await connections.send(request))

            due = load.begun
            while (due := due + chance.expovariate(rate)) < load.ended:
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                load.late += wait < -0.05
                group.create_task(one(choose(chance)))
    return load


@contextlib.contextmanager
def _timed(load: Load) -> Iterator[None]:
    before = own_cpu_seconds()
    try:
        yield
    finally:
        load.cpu_seconds = own_cpu_seconds() - before


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line[15:])
    return 0
