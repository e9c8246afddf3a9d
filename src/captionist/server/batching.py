"""A bounded queue and a batcher in front of the Captioner.

A picture is admitted, or refused at once if the service is full; decoded by a pool of threads; queued; and taken by one
of the threads that run the engine, together with others that wait. A batch that fails is tried again picture by
picture. A picture whose client is gone, or whose deadline has passed, is dropped before it costs inference.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from captionist.captioner import Captioner
from captionist.captions import Caption
from captionist.inference.encoding import Prepared
from captionist.inference.search import SearchOptions

_log = structlog.get_logger()
_SMOOTHING = 0.2  # weight of the newest batch in the running mean of seconds per picture


class OverloadedError(Exception):
    """The service is full. retry_after: seconds until there is likely to be room."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class Level:
    """A number of pictures that changes in steps, and its integral over time."""

    def __init__(self) -> None:
        self.now = 0
        self._area, self._since = 0.0, time.monotonic()

    def change(self, by: int) -> None:
        """Change the number by so many pictures."""
        self._area, self._since = self.area(), time.monotonic()
        self.now += by

    def area(self) -> float:
        """Picture-seconds so far; their growth over a period, divided by its length, is the mean."""
        return self._area + self.now * (time.monotonic() - self._since)


@dataclass(frozen=True, slots=True)
class Described:
    """A caption, and the seconds spent in each stage."""

    caption: Caption
    decode: float
    queue: float
    encode: float
    generate: float
    batch: int
    """Pictures that were encoded and generated together."""


@dataclass(slots=True, eq=False)
class _Job:
    picture: Prepared
    options: SearchOptions
    deadline: float
    decode: float
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Described]"
    queued: float = field(default_factory=time.monotonic)
    gone: bool = False
    """The client went away; set by the event loop, read by the engine's thread."""


class Batcher:
    """Captions pictures that come one by one in batches. Its methods belong to one event loop."""

    def __init__(
        self,
        captioner: Captioner,
        *,
        max_batch: int,
        max_delay: float,
        max_queue: int,
        deadline: float,
        engines: int,
        on_batch: Callable[[int, float, float], None],
    ) -> None:
        """deadline: seconds within which a picture should be done; engines: number of threads that run batches, and of
        threads that decode; on_batch: called after each batch with its pictures and the seconds of encode and generate;
        see `Settings` for the others.
        """
        self._captioner, self._on_batch = captioner, on_batch
        self.max_batch, self.max_queue = max_batch, max_queue
        self._max_delay, self._deadline = max_delay, deadline
        self._decoders = ThreadPoolExecutor(engines, "decode")
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._decoding = 0
        self.closing = False
        """Whether nothing more will be admitted."""
        self._seconds = 0.0
        self._admitted, self._queued = Level(), Level()
        self._idle = 0
        self._engines = [threading.Thread(target=self._work, name=f"engine-{n}", daemon=True) for n in range(engines)]
        for engine in self._engines:
            engine.start()

    @property
    def waiting(self) -> int:
        """Pictures that are decoded and waiting for the engine."""
        return self._queued.now

    @property
    def admitted(self) -> int:
        """Pictures that are admitted and not yet done."""
        return self._admitted.now

    def areas(self) -> tuple[float, float]:
        """`waiting` and `admitted` over time, in picture-seconds since the start; see `Level`."""
        with self._changed:
            return self._queued.area(), self._admitted.area()

    @property
    def alive(self) -> bool:
        """Whether all of the engine's threads are alive."""
        return all(engine.is_alive() for engine in self._engines)

    @property
    def ready(self) -> bool:
        """Whether pictures are accepted."""
        return self.alive and not self.closing

    def check_room(self, pictures: int = 1) -> None:
        """Raises OverloadedError if this many more pictures would not fit, or could not be done by their deadline."""
        wait = self.admitted * self._seconds
        if self.closing:
            raise OverloadedError("stopping", 1)
        if self.admitted and self.admitted + pictures > self.max_queue:
            raise OverloadedError("queue_full", wait)
        if wait + pictures * self._seconds > self._deadline and self.admitted:
            raise OverloadedError("deadline", wait)

    @contextmanager
    def room(self, pictures: int) -> Iterator[None]:
        """Takes this many places in the queue for as long as the context lasts, or raises OverloadedError."""
        self.check_room(pictures)
        self._admitted.change(pictures)
        try:
            yield
        finally:
            self._admitted.change(-pictures)

    async def caption(self, picture: bytes, name: str, options: SearchOptions, deadline: float) -> Described:
        """Describe one picture; must be called inside `room`.

        name: what error messages call it; deadline: the time.monotonic() after which nobody waits for it. Cancelling
        the call drops the picture. Raises ImageError if it cannot be read, TimeoutError at the deadline.
        """
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        async with asyncio.timeout(deadline - begun):
            job = None
            self._decoding += 1
            try:
                # A call cancelled while it waits for a thread never runs.
                prepared = await loop.run_in_executor(self._decoders, self._prepare, picture, name, deadline)
                job = _Job(prepared, options, deadline, time.monotonic() - begun, loop, loop.create_future())
            finally:
                with self._changed:
                    self._decoding -= 1
                    if job:
                        self._waiting.append(job)
                        self._queued.change(1)
                    self._changed.notify_all()
            del picture  # while waiting, only the prepared one is kept
            try:
                return await job.future
            finally:
                job.gone = True

    def _prepare(self, picture: bytes, name: str, deadline: float) -> Prepared:
        if time.monotonic() > deadline:
            raise TimeoutError
        return self._captioner.prepare(picture, name)

    def close(self) -> None:
        """Finish what is queued, then stop. Admits nothing more, and blocks until the engine's threads have ended."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()
        for engine in self._engines:
            engine.join()
        self._decoders.shutdown(cancel_futures=True)

    def _work(self) -> None:
        while jobs := self._take():
            self._run(jobs)

    def _take(self) -> list[_Job]:
        """The next jobs that can share a batch; none when all work is done."""
        with self._changed:
            self._idle += 1
            try:
                while True:
                    while not self._waiting:
                        if self.closing and not self._decoding:
                            return []
                        self._changed.wait()
                    self._await_company()
                    if self._waiting:  # no other engine took them
                        return self._next_batch()
            finally:
                self._idle -= 1

    def _await_company(self) -> None:
        """Wait a moment for pictures that are being decoded."""
        patience = time.monotonic() + self._max_delay
        while 0 < len(self._waiting) < self.max_batch and self._decoding:
            if not self._changed.wait(patience - time.monotonic()):
                return

    def _next_batch(self) -> list[_Job]:
        # What waits is shared among the idle engines.
        options = self._waiting[0].options
        share = min(options.fitting(self.max_batch), math.ceil(len(self._waiting) / self._idle))
        jobs = [job for job in self._waiting if job.options == options][:share]
        for job in jobs:
            self._waiting.remove(job)
        self._queued.change(-len(jobs))
        return jobs

    def _run(self, jobs: list[_Job]) -> None:
        began = time.monotonic()
        live = [job for job in jobs if not job.gone and job.deadline > began]
        if not live:
            return
        outcome: Sequence[Described] | Exception
        try:
            outcome = self._describe(live, began)
        except BaseException as error:  # such as a panic in a Rust library; the thread must go on
            if len(live) > 1:  # one of them may be to blame; the others need not pay for it
                _log.warning("a batch failed", pictures=len(live), exc_info=error)
                for job in live:
                    self._run([job])
                return
            outcome = error if isinstance(error, Exception) else RuntimeError(repr(error))
        live[0].loop.call_soon_threadsafe(_deliver, live, outcome)

    def _describe(self, jobs: list[_Job], began: float) -> list[Described]:
        encoding = self._captioner.encode([job.picture for job in jobs])
        encoded = time.monotonic()
        captions = self._captioner.generate(encoding, jobs[0].options)
        ended = time.monotonic()
        encode, generate = encoded - began, ended - encoded
        described = [
            Described(caption, job.decode, began - job.queued, encode, generate, len(jobs))
            for job, caption in zip(jobs, captions, strict=True)
        ]
        self._on_batch(len(jobs), encode, generate)
        self.note_speed((ended - began) / len(jobs))
        return described

    def note_speed(self, seconds: float) -> None:
        """Note how long one engine took for a picture; deadlines are judged by the running mean."""
        newest = seconds / len(self._engines)
        with self._changed:
            self._seconds += (newest - self._seconds) * (_SMOOTHING if self._seconds else 1)


def _deliver(jobs: list[_Job], outcome: Any) -> None:
    for place, job in enumerate(jobs):
        if job.future.done():
            continue
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome[place])
