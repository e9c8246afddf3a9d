"""Makes the store's blocking calls outside the event loop."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from captionist.server.store.store import FeedbackStore, StoreError

_Result = TypeVar("_Result")
_THREADS = 4
_MOST_PENDING = 64
_MOST_SECONDS = 5.0


class StoreCalls:
    """The store's own threads: if the database hangs, it blocks nothing else, and only a limited number of calls."""

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store
        self._pool = ThreadPoolExecutor(_THREADS, "store")
        self._pending = 0

    async def run(self, work: Callable[[FeedbackStore], _Result]) -> _Result:
        """What `work` returns. Raises what it raises, and StoreError if too many calls are waiting, or this one waited
        too long to begin.
        """
        if self._pending >= _MOST_PENDING:
            raise StoreError("too many calls wait for the feedback database")
        self._pending += 1
        # If the client goes away, its feedback stays, and the thread is busy until the call returns.
        call = asyncio.get_running_loop().run_in_executor(self._pool, self._in_time, work, time.monotonic())
        call.add_done_callback(self._done)
        return await asyncio.shield(call)

    def _in_time(self, work: Callable[[FeedbackStore], _Result], asked: float) -> _Result:
        if time.monotonic() - asked > _MOST_SECONDS:
            raise StoreError("the feedback database is too slow for the load")
        return work(self.store)

    def _done(self, call: "asyncio.Future[_Result]") -> None:
        self._pending -= 1
        if not call.cancelled():
            call.exception()  # read here, since nobody else will if the client is gone

    def close(self) -> None:
        """Wait for what runs, and close the store; nobody was told that calls which have not begun succeeded."""
        self._pool.shutdown(cancel_futures=True)
        self.store.close()
