"""Captions on Ray: actors that hold the model, on this machine or on the cluster that RAY_ADDRESS names."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # must be set before ray is imported, or it reports usage

import pyarrow as pa
import ray
import ray.data

from captionist import paths
from captionist.captioner import Captioner
from captionist.collection.addresses import Address
from captionist.collection.blocks import Claims, Row, caption_block
from captionist.collection.captioning import Runner
from captionist.collection.table import SCHEMA
from captionist.errors import CollectionError
from captionist.images import ImageLimits
from captionist.options import SearchOverrides

BLOCK = 32
"""Pictures per call."""
MOST_ATTEMPTS = 3
"""How often a block may kill its process before its pictures are given up: one of them may be the cause."""
_MOST_TASKS = 10_000
_MOST_BLOCKS_A_TASK = 32

_GIVEN_UP = (
    f"{MOST_ATTEMPTS} processes died at the {BLOCK} pictures with this one among them: run again, or caption it alone"
)


class Ledger:
    """What all actors know together. If its node dies, it starts empty, and some pictures are captioned twice."""

    def __init__(self, answered: Sequence[str]) -> None:
        self._claims = Claims(answered)
        self._attempts: Counter[str] = Counter()

    def begin(self, block: str) -> bool:
        """Whether the block with this first picture should be tried (again)."""
        self._attempts[block] += 1
        return self._attempts[block] <= MOST_ATTEMPTS

    def claim(self, pictures: Sequence[tuple[str, str]]) -> list[bool]:
        """See `blocks.Claim`."""
        return self._claims.claim(pictures)


class Worker:
    """The actor: a captioner on one core."""

    def __init__(self, model: str | None, limits: ImageLimits | None, ledger: Any, options: SearchOverrides) -> None:
        self._captioner = Captioner(model, threads=1, limits=limits)
        self._ledger, self._options = ledger, options

    def __call__(self, batch: pa.Table) -> pa.Table:
        block = [Address(one["name"], os.fsdecode(one["location"])) for one in batch.to_pylist()]
        if ray.get(self._ledger.begin.remote(block[0].name)):
            rows = caption_block(self._captioner, block, self._claim, **self._options)
        else:
            rows = [Row(one.name, None, error=_GIVEN_UP) for one in block]
        return pa.Table.from_pylist([asdict(row) for row in rows], SCHEMA)

    def _claim(self, pictures: Sequence[tuple[str, str]]) -> list[bool]:
        answer: list[bool] = ray.get(self._ledger.claim.remote(pictures))
        return answer


def ray_runner(
    model: str | None, actors: int | None, limits: ImageLimits | None = None, **options: Unpack[SearchOverrides]
) -> Runner:
    """Captions in actors, by default one for each core of the cluster. Ray restarts whatever dies.

    model, limits: as for `Captioner`; a directory must exist on every node.
    """
    if model is not None and paths.isdir(model):
        model = str(Path(model).absolute())  # actors have another current folder

    def run(addresses: Sequence[Address], answered: Iterable[str]) -> Iterator[Row]:
        if addresses:
            with _connected():
                yield from _run(addresses, list(answered), actors, (model, limits, options))

    return run


def _run(
    addresses: Sequence[Address], answered: Sequence[str], actors: int | None, captioning: tuple[Any, ...]
) -> Iterator[Row]:
    """captioning: the model, the limits and the options."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    model, limits, options = captioning
    # num_cpus=0: it must fit in next to actors that take every core.
    ledger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger).remote(answered)
    tables = _tables(addresses)
    size = actors or max(1, int(ray.cluster_resources().get("CPU", 1)))
    rows = ray.data.from_arrow(tables).map_batches(
        Worker,
        fn_constructor_args=(model, limits, ledger, options),
        batch_size=BLOCK,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(size, len(tables))),
        num_cpus=1,
    )
    # No prefetching: a finished batch would wait for the next one before it is written.
    for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for fields in batch.to_pylist():
            yield Row(**fields)


def _tables(addresses: Sequence[Address]) -> list[pa.Table]:
    """A table per task: small, so that little must be repeated, but not too many for Ray to keep track of."""
    blocks = min(max(1, len(addresses) // (BLOCK * _MOST_TASKS)), _MOST_BLOCKS_A_TASK)
    size = blocks * BLOCK
    return [
        pa.table(
            {
                "name": [one.name for one in addresses[start : start + size]],
                "location": [os.fsencode(one.location) for one in addresses[start : start + size]],
            }
        )
        for start in range(0, len(addresses), size)
    ]


@contextmanager
def _connected() -> Iterator[None]:
    """A connection to Ray; one that existed before stays open."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise CollectionError(f"Ray cannot be reached ({error}): check RAY_ADDRESS") from error
    try:
        yield
    finally:
        ray.shutdown()
