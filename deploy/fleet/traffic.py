"""Requests for captions at a rate that may change, and what became of each."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.load import UNANSWERED, Answer, Client, client

_RETRIED = (UNANSWERED, 502, 503, 504)
_PAUSE = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Request:
    """One request. first: the status of its first attempt; status: of the last one; seconds: until then."""

    sent: float
    seconds: float
    first: int
    status: int
    version: str | None
    """Of the model that answered."""

    @property
    def answered(self) -> float:
        return self.sent + self.seconds


@dataclass
class Traffic:
    """Clients that come at random (Poisson), `rate` of them a second, however the service keeps up.

    retry: whether they try once more, a second later, what was not answered or failed on the way. A caption changes
    nothing on the server, so that does no harm.
    """

    pictures: Sequence[bytes]
    rate: float
    retry: bool = False
    requests: list[Request] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    """When; also of those that are under way."""

    async def run(self, port: int) -> None:
        """Send until cancelled, then wait for the last answers."""
        chance, due = random.Random(0), time.monotonic()
        async with client(port) as connections, asyncio.TaskGroup() as group:
            try:
                while True:
                    due = max(due + chance.expovariate(self.rate), time.monotonic() - 1)
                    await asyncio.sleep(due - time.monotonic())
                    group.create_task(self._one(connections, chance.choice(self.pictures)))
            except asyncio.CancelledError:
                pass

    async def _one(self, connections: Client, picture: bytes) -> None:
        sent = time.monotonic()
        self.sent.append(sent)
        first = answer = await connections.send(picture)
        if self.retry and first.status in _RETRIED:
            await asyncio.sleep(_PAUSE)
            answer = await connections.send(picture)
        seconds = time.monotonic() - sent
        self.requests.append(Request(sent, seconds, first.status, answer.status, _version(answer)))


def _version(answer: Answer) -> str | None:
    return str(json.loads(answer.body)["model"]["version"]) if answer.status == 200 else None


def statuses(requests: Iterable[Request]) -> dict[int, int]:
    """How many first attempts ended with each status."""
    return dict(sorted(Counter(request.first for request in requests).items()))


def milliseconds(requests: Iterable[Request], quantile: float) -> float:
    """A quantile of the time that captions took; nan where there are none."""
    times = [request.seconds for request in requests if request.status == 200]
    return 1000 * float(np.quantile(times, quantile)) if times else float("nan")
