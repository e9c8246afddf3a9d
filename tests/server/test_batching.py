"""The queue and the batcher, with a model whose speed the tests decide."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from numpy.typing import NDArray

from captionist.captions import Caption
from captionist.errors import NotAnImageError
from captionist.inference.search import SearchOptions
from captionist.options import MOST_ROWS
from captionist.server.batching import Batcher, Level, OverloadedError
from captionist.server.inputs import Picture
from captionist.server.routes.captions import _describe

OPTIONS = SearchOptions(num_beams=1)


class Slow:
    """Stands in for the Captioner: its engine runs only while `gate` is open, and it notes every batch."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []
        self.error: BaseException = RuntimeError("broken")
        self.fails: Callable[[list[int]], bool] = lambda _: False
        """Whether the engine fails on these pictures."""

    def prepare(self, picture: bytes, name: str) -> NDArray[np.float32]:
        if picture == b"bad":
            raise NotAnImageError(name)
        return np.full((3, 1, 1), int(picture), np.float32)

    def encode(self, pixels: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.batches.append([int(p[0, 0, 0]) for p in pixels])
        assert self.gate.wait(10)
        if self.fails(self.batches[-1]):
            raise self.error
        return np.stack(pixels)

    def generate(self, visual_tokens: NDArray[np.float32], _: SearchOptions) -> list[Caption]:
        return [Caption(str(int(tokens[0, 0, 0])), -1.0, 0.5, (), ()) for tokens in visual_tokens]


def start(model: Any, sizes: list[int], engines: int = 1, **changes: Any) -> Batcher:
    """A batcher around something that stands in for the Captioner. sizes: of its batches, as it tells them."""
    settings: dict[str, Any] = {"max_batch": 4, "max_delay": 0.05, "max_queue": 10, "deadline": 60} | changes
    return Batcher(model, engines=engines, on_batch=lambda size, *_: sizes.append(size), **settings)


@pytest.fixture
def model() -> Slow:
    return Slow()


@pytest.fixture
def sizes() -> list[int]:
    return []


@pytest.fixture
def batcher(model: Slow, sizes: list[int]) -> Iterator[Batcher]:
    made = start(model, sizes)
    yield made
    model.gate.set()
    made.close()


@asynccontextmanager
async def busy(batcher: Batcher, model: Slow) -> AsyncIterator["asyncio.Task[Any]"]:
    """The engine is held up with a first picture, 0, and goes on when the context ends."""
    model.gate.clear()
    first = asyncio.create_task(ask(batcher, 0))
    while not model.batches:
        await asyncio.sleep(0.001)
    try:
        yield first
    finally:
        model.gate.set()


async def ask(batcher: Batcher, number: int, options: SearchOptions = OPTIONS, patience: float = 60) -> str:
    with batcher.room(1):
        described = await batcher.caption(str(number).encode(), "a", options, time.monotonic() + patience)
        return described.caption.text


async def queued(batcher: Batcher, count: int) -> None:
    while batcher.waiting != count:
        await asyncio.sleep(0.001)


def behind(batcher: Batcher, model: Slow, *asked: tuple[int, SearchOptions]) -> list[str]:
    """What is said of pictures that all wait behind the first, 0."""

    async def run() -> list[str]:
        async with busy(batcher, model) as first:
            others = [asyncio.create_task(ask(batcher, number, options)) for number, options in asked]
            await queued(batcher, len(others))
        return [await task for task in (first, *others)]

    return asyncio.run(run())


def test_what_waits_is_taken_together_up_to_the_largest_batch(batcher: Batcher, model: Slow, sizes: list[int]) -> None:
    said = behind(batcher, model, *((number, OPTIONS) for number in range(1, 7)))
    assert said == [str(number) for number in range(7)]
    assert [len(batch) for batch in model.batches] == sizes == [1, 4, 2]
    assert batcher.admitted == batcher.waiting == 0


def test_engines_with_nothing_to_do_share_what_waits(model: Slow, sizes: list[int]) -> None:
    batcher = start(model, sizes, engines=2)

    async def run() -> None:
        async with busy(batcher, model) as first:
            others = [asyncio.create_task(ask(batcher, number)) for number in range(1, 6)]
            while len(model.batches) < 2:  # the second engine takes some while the first is held up
                await asyncio.sleep(0.001)
        await asyncio.gather(first, *others)

    asyncio.run(run())
    batcher.close()
    assert sorted(number for batch in model.batches for number in batch) == [0, 1, 2, 3, 4, 5]
    assert not batcher.alive


def test_only_the_same_options_share_a_batch(batcher: Batcher, model: Slow) -> None:
    other = OPTIONS.override(num_beams=2)
    behind(batcher, model, *((number, other if number % 2 else OPTIONS) for number in range(1, 7)))
    assert sorted(sorted(batch) for batch in model.batches) == [[0], [1, 3, 5], [2, 4, 6]]


def test_wide_beams_run_in_smaller_batches(batcher: Batcher, model: Slow) -> None:
    wide = OPTIONS.override(num_beams=MOST_ROWS // 2)
    behind(batcher, model, (1, wide), (2, wide), (3, wide))
    assert model.batches == [[0], [1, 2], [3]]


def test_a_picture_that_is_given_up_never_reaches_the_engine(batcher: Batcher, model: Slow) -> None:
    async def run() -> None:
        async with busy(batcher, model) as first:
            gone, kept = (asyncio.create_task(ask(batcher, number)) for number in (1, 3))
            await queued(batcher, 2)
            gone.cancel()
            with pytest.raises(TimeoutError):
                await ask(batcher, 2, patience=0.02)
        assert await first == "0"
        assert await kept == "3"
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(run())
    assert model.batches == [[0], [3]]
    assert batcher.admitted == 0


def test_a_picture_that_waits_holds_no_bytes(batcher: Batcher, model: Slow) -> None:
    service: Any = SimpleNamespace(batcher=batcher, settings=SimpleNamespace(deadline=5), telemetry=MagicMock())
    freed = threading.Event()

    class Traced(bytes):
        def __del__(self) -> None:
            freed.set()

    picture = Picture("a", Traced(b"1"))

    async def run() -> None:
        async with busy(batcher, model):
            described = asyncio.create_task(_describe(service, [picture], OPTIONS, None))
            await queued(batcher, 1)
            assert freed.is_set()
        await described

    asyncio.run(run())


def test_a_full_queue_refuses_at_once(batcher: Batcher, model: Slow) -> None:
    async def run() -> None:
        async with busy(batcher, model):
            tasks = [asyncio.create_task(ask(batcher, number)) for number in range(1, 10)]
            await queued(batcher, 9)
            with pytest.raises(OverloadedError) as refused:
                batcher.check_room()
            assert refused.value.reason == "queue_full"
        await asyncio.gather(*tasks)
        batcher.check_room()

    asyncio.run(run())


def test_what_could_not_be_done_in_time_is_refused(batcher: Batcher, model: Slow) -> None:
    async def run() -> None:
        batcher._seconds = 25  # as if each picture had taken so long; the deadline is 60 seconds
        async with busy(batcher, model) as first:
            batcher.check_room()
            second = asyncio.create_task(ask(batcher, 2))
            await queued(batcher, 1)
            with pytest.raises(OverloadedError) as refused:
                batcher.check_room()
            assert refused.value.reason == "deadline"
            assert refused.value.retry_after == pytest.approx(50)
        await asyncio.gather(first, second)

    asyncio.run(run())


def test_pictures_over_time_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("captionist.server.batching.time", SimpleNamespace(monotonic=lambda: now))
    level = Level()
    for now, change in ((1.0, 3), (3.0, -1), (6.0, -2)):  # noqa: B007 - the clock reads it
        level.change(change)
    now = 9.0
    assert (level.now, level.area()) == (0, 3 * 2 + 2 * 3)


def test_more_pictures_than_the_queue_holds_are_taken_when_it_is_empty(batcher: Batcher) -> None:
    with batcher.room(11):
        assert batcher.admitted == 11


def test_a_picture_that_cannot_be_read_is_an_error_of_its_own(batcher: Batcher) -> None:
    async def run() -> None:
        with batcher.room(1), pytest.raises(NotAnImageError, match="mine"):
            await batcher.caption(b"bad", "mine", OPTIONS, time.monotonic() + 5)
        assert await ask(batcher, 1) == "1"

    asyncio.run(run())


class Panic(BaseException):
    """Such as libraries in Rust raise."""


@pytest.mark.parametrize("error", [RuntimeError("broken"), MemoryError("broken"), Panic("broken")])
def test_an_engine_that_fails_tells_everybody_and_goes_on(batcher: Batcher, model: Slow, error: BaseException) -> None:
    async def run() -> None:
        model.error, model.fails = error, lambda _: True
        failed = await asyncio.gather(ask(batcher, 1), ask(batcher, 2), return_exceptions=True)
        assert ["broken" in str(error) for error in failed] == [True, True]
        model.fails = lambda _: False
        assert await ask(batcher, 3) == "3"

    asyncio.run(run())
    assert batcher.alive


def test_a_batch_that_fails_is_tried_again_picture_by_picture(batcher: Batcher, model: Slow) -> None:
    model.fails = lambda batch: len(batch) > 1
    said = behind(batcher, model, *((number, OPTIONS) for number in range(1, 5)))
    assert said == ["0", "1", "2", "3", "4"]
    assert model.batches == [[0], [1, 2, 3, 4], [1], [2], [3], [4]]


@pytest.mark.parametrize("engines", [1, 3])
def test_one_bad_picture_fails_alone(model: Slow, sizes: list[int], engines: int) -> None:
    batcher = start(model, sizes, engines, max_queue=100)
    model.fails = lambda batch: 7 in batch

    async def run() -> list[Any]:
        return await asyncio.gather(*(ask(batcher, number) for number in range(20)), return_exceptions=True)

    outcomes = asyncio.run(run())
    batcher.close()
    assert isinstance(outcomes.pop(7), RuntimeError)
    assert outcomes == [str(number) for number in range(20) if number != 7]
    assert sum(sizes) == 19


def test_closing_finishes_what_is_queued_and_admits_nothing_more(batcher: Batcher, model: Slow) -> None:
    async def run() -> list[str]:
        async with busy(batcher, model) as first:
            second = asyncio.create_task(ask(batcher, 1))
            await queued(batcher, 1)
            closing = asyncio.create_task(asyncio.to_thread(batcher.close))
            while not batcher.closing:
                await asyncio.sleep(0.001)
            with pytest.raises(OverloadedError) as refused:
                batcher.check_room()
            assert refused.value.reason == "stopping"
        await closing
        return [await first, await second]

    assert asyncio.run(run()) == ["0", "1"]
    assert not batcher.alive


class Hasty(Slow):
    """Takes a little while for everything, and fails at some."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(0)
        self.fails = lambda batch: any(number % 10 == 3 for number in batch)

    def prepare(self, picture: bytes, name: str) -> NDArray[np.float32]:
        time.sleep(self.random.uniform(0, 0.004))
        return super().prepare(picture, name)

    def encode(self, pixels: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        time.sleep(self.random.uniform(0, 0.008))
        return super().encode(pixels)


def test_giving_up_in_every_phase_leaves_nothing_behind(sizes: list[int]) -> None:
    chance, outcomes = random.Random(1), set[str]()
    batcher = start(Hasty(), sizes, engines=2, max_delay=0.002, max_queue=400, deadline=300)
    complaints: list[dict[str, Any]] = []

    async def one(number: int) -> None:
        options = SearchOptions(num_beams=chance.choice((1, 2)))
        picture = b"bad" if number % 10 == 0 else str(number).encode()
        try:
            with batcher.room(1):
                patience = chance.choice((300, 300, 0.02, 0.001, -1))
                described = await batcher.caption(picture, "a", options, time.monotonic() + patience)
            assert described.caption.text == str(number)
            outcomes.add("described")
        except (NotAnImageError, TimeoutError, RuntimeError, asyncio.CancelledError, OverloadedError) as error:
            outcomes.add(type(error).__name__)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        tasks = []
        for number in range(1, 501):
            tasks.append(asyncio.create_task(one(number)))
            if chance.random() < 0.5:
                loop.call_later(chance.uniform(0, 0.2), tasks[-1].cancel)
            if number % 25 == 0:
                await asyncio.sleep(0.01)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert batcher.admitted == 0
        await asyncio.to_thread(batcher.close)

    asyncio.run(run(), debug=True)
    assert complaints == []
    assert {"described", "NotAnImageError", "TimeoutError", "RuntimeError"} <= outcomes
    assert batcher.waiting == 0
    assert not batcher.alive
