"""Work on many inputs, shared out in batches among threads."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

S = TypeVar("S")
R = TypeVar("R")


def share_out(
    sources: Iterator[S],
    size: int,
    threads: int,
    worker: Callable[[bool], Callable[[list[S]], list[R]]],
) -> Iterator[R]:
    """The results for all sources, in their order and as they come, in batches of `size`.

    worker(True) gives what works on less than a batch, worker(False) what each of the threads calls with a batch of its
    own, so that as many batches are read before the first result. Where the sources fail, the results of what they gave
    before come first.
    """
    batches = _batches(sources, size)
    first = next(batches, [])
    if len(first) < size:  # there is nothing to share out
        yield from worker(True)(first)
        next(batches, None)
        return
    work, working = worker(False), deque[Future[list[R]]]()
    with ThreadPoolExecutor(threads, "captionist") as pool:
        try:
            for batch in chain([first], batches):
                working.append(pool.submit(work, batch))
                if len(working) == threads:
                    yield from working.popleft().result()
        except Exception:  # of the sources; what was read before is not lost
            yield from _drain(working)
            raise
        yield from _drain(working)


def _batches(sources: Iterator[S], size: int) -> Iterator[list[S]]:
    """Lists of `size`, the last one shorter; where the sources fail, what they gave before comes first."""
    while True:
        batch: list[S] = []
        try:
            batch.extend(islice(sources, size))
        except Exception:
            yield batch
            raise
        if not batch:
            return
        yield batch


def _drain(working: deque[Future[list[R]]]) -> Iterator[R]:
    while working:
        yield from working.popleft().result()
