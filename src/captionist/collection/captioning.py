"""Captions a collection: what is missing goes to a runner, and the results into the table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Unpack

from captionist.captioner import Captioner
from captionist.collection.addresses import Address
from captionist.collection.blocks import Claims, Row, caption_block
from captionist.collection.table import Table
from captionist.inference.threads import available_cores
from captionist.options import SearchOverrides

Runner = Callable[[Sequence[Address], Iterable[str]], Iterator[Row]]
"""Captions addresses in any order; pictures whose sha256 is among those given already have an answer."""


def caption_collection(addresses: Sequence[Address], table: Table, runner: Runner, tell: Callable[[Row], None]) -> None:
    """Give the table a row for each address that has none; `tell` gets every new row.

    Raises CollectionError if the table cannot be written.
    """
    missing = [address for address in addresses if address.name not in table.done]
    for row in _answered(runner(missing, list(table.answers)), table.answers):
        if row.path not in table.done:  # a runner may do work twice when processes die
            table.add(row)
            tell(row)


def local_runner(captioner: Captioner, **options: Unpack[SearchOverrides]) -> Runner:
    """Captions in this process, on all of the captioner's threads."""
    size = max(32, 16 * available_cores())  # every thread gets two batches

    def run(addresses: Sequence[Address], answered: Iterable[str]) -> Iterator[Row]:
        claims = Claims(answered)
        for start in range(0, len(addresses), size):
            yield from caption_block(captioner, addresses[start : start + size], claims.claim, **options)

    return run


def _answered(rows: Iterable[Row], answers: dict[str, Row]) -> Iterator[Row]:
    """The rows; one without an answer follows once a picture with the same bytes has one."""
    waiting: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.sha256 is None:
            yield row
        elif row.caption is None and row.error is None:
            if row.sha256 in answers:
                yield replace(answers[row.sha256], path=row.path)
            else:
                waiting[row.sha256].append(row.path)
        else:
            yield row
            for path in waiting.pop(row.sha256, ()):
                yield replace(row, path=path)
    for path in chain.from_iterable(waiting.values()):
        yield Row(path, None, error="an identical picture could not be captioned: run again")
