"""Shares out work on many inputs among threads, in batches."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Protocol, TypeVar

S = TypeVar("S")
R = TypeVar("R")


class HasImage(Protocol):
    """Something that stands for a picture."""

    @property
    def image(self) -> object: ...


class HasSource(Protocol):
    """The result for a picture."""

    @property
    def source(self) -> object: ...


Item = TypeVar("Item", bound=HasImage)
Result = TypeVar("Result", bound=HasSource)


def paired(items: Iterable[Item], results: Iterable[Result]) -> Iterator[tuple[Item, Result]]:
    """Each result, as it comes, with the item whose `image` is its `source`: the same object, whatever its position."""
    owners: dict[int, deque[Item]] = defaultdict(deque)
    for item in items:
        owners[id(item.image)].append(item)
    return ((owners[id(result.source)].popleft(), result) for result in results)


def each_or_error(work: Callable[[Sequence[S]], Sequence[R]], items: Sequence[S]) -> list[R | Exception]:
    """What `work` makes of each item, in order. If it fails for all at once, it gets them one by one, so that a bad
    item costs only its own result: that is the Exception it raised.
    """
    if not items:
        return []
    try:
        results = list(work(items))
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} pictures gave {len(results)} results")
        return [*results]
    except Exception as error:
        if len(items) == 1:
            return [error]
    # Outside the except block: inside, the error would keep the memory of the batch, and lack of memory may be its
    # cause.
    return [result for item in items for result in each_or_error(work, [item])]


def share_out(
    sources: Iterator[S],
    size: int,
    threads: int,
    worker: Callable[[bool], Callable[[list[S]], list[R]]],
) -> Iterator[R]:
    """The results for all sources, in their order and as they come, in batches of `size`.

    worker(True) returns a function for less than a batch, worker(False) one that each thread calls with its own batch;
    so as many batches are read before the first result. If the sources fail, the results for what they gave before come
    first. If the work fails, nothing comes after it: results would take the places of others.
    """
    batches = _batches(sources, size)
    first = next(batches, [])
    if len(first) < size:  # nothing to share out
        yield from worker(True)(first)
        next(batches, None)
        return
    work, working = worker(False), deque[Future[list[R]]]()
    batches = chain([first], batches)
    with ThreadPoolExecutor(threads, "captionist") as pool:
        while True:
            try:
                batch = next(batches, None)
            except Exception:  # from the sources; what was read before is not lost
                yield from _drain(working)
                raise
            if batch is None:
                break
            working.append(pool.submit(work, batch))
            if len(working) == threads:
                yield from working.popleft().result()
        yield from _drain(working)


def _batches(sources: Iterator[S], size: int) -> Iterator[list[S]]:
    """Lists of `size`, the last one shorter; if the sources fail, what they gave before comes first."""
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
