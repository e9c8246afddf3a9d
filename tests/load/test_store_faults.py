"""Faults in what keeps feedback. Captions continue all the while, and feedback recovers by itself."""

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.load import Answer, client
from harness.postgres import Postgres
from harness.processes import Service
from tests import tools
from tests.load.ask import SECRET, comments, feedback, problem, send
from tests.load.conftest import Start

pytestmark = pytest.mark.load


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    with tools.small_disk(tmp_path / "disk", 2048):
        yield tmp_path / "disk"


def _fill(file: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass


def _post(service: Service, comment: str) -> Answer:
    return asyncio.run(send(service.port, feedback(comment, key=comment.replace(" ", "-"))))


def _posts_in_the_end(service: Service, comment: str) -> None:
    """Feedback is accepted again within a minute."""
    give_up = time.monotonic() + 60
    while (answer := _post(service, comment)).status != 201:
        problem(answer, 503, "store-unavailable")
        assert time.monotonic() < give_up
        time.sleep(0.5)


def test_a_full_disk(start: Start, small_disk: Path, caption: bytes) -> None:
    service = start(data_dir=small_disk, secret=SECRET)
    assert _post(service, "before").status == 201
    ballast = small_disk / "ballast"
    _fill(ballast)
    acknowledged = ["before"]
    for number in range(2000):  # what SQLite still has room for in its files
        answer = _post(service, f"full-{number}")
        if answer.status != 201:
            break
        acknowledged.append(f"full-{number}")
    problem(answer, 503, "store-unavailable")
    assert asyncio.run(send(service.port, caption)).status == 200
    assert service.get("/health/ready")[0] == 200
    problem(_post(service, "still full"), 503, "store-unavailable")
    ballast.unlink()
    _posts_in_the_end(service, "after")
    kept = comments(service.get("/v1/feedback/export")[1])
    assert sorted(kept) == sorted([*acknowledged, "after"])
    assert service.metric("captionist_feedback_store_failures_total") >= 2


def test_a_locked_sqlite_database(start: Start, caption: bytes) -> None:
    service = start(secret=SECRET)

    async def run() -> tuple[list[Answer], Answer]:
        async with client(service.port) as connections:
            waiting = [asyncio.create_task(connections.send(feedback(str(number)))) for number in range(100)]
            await asyncio.sleep(0.5)
            captioned = await connections.send(caption)
            assert sum(not answer.done() for answer in waiting) > 0
            return await asyncio.gather(*waiting), captioned

    with closing(sqlite3.connect(service.data_dir / "captionist.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused, captioned = asyncio.run(run())
        other.execute("ROLLBACK")
    assert captioned.status == 200
    for answer in refused:
        problem(answer, 503, "store-unavailable")
    assert max(answer.seconds for answer in refused) < 30  # load balancers give up after 60 s, people before
    _posts_in_the_end(service, "after")
    assert comments(service.get("/v1/feedback/export")[1]) == ["after"]


def test_sigterm_with_a_locked_database(start: Start) -> None:
    service = start(secret=SECRET, grace_period=5)

    async def run() -> list[Answer]:
        async with client(service.port) as connections:
            waiting = [asyncio.create_task(connections.send(feedback(str(number)))) for number in range(40)]
            await asyncio.sleep(0.5)
            service.process.terminate()
            return await asyncio.gather(*waiting)

    with closing(sqlite3.connect(service.data_dir / "captionist.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = asyncio.run(run())
        assert service.process.wait(25) == 0  # the grace period, and what SQLite waits for a lock
        other.execute("ROLLBACK")
    assert not any(answer.status == 201 for answer in answers)


def test_postgresql_stops_and_comes_back(start: Start, postgres: Postgres, caption: bytes) -> None:
    service = start(secret=SECRET, database_url=postgres.url)
    for number in range(10):
        assert _post(service, f"before-{number}").status == 201
    for mode in ("fast", "immediate"):
        postgres.stop(mode)
        problem(_post(service, f"while {mode}"), 503, "store-unavailable")
        assert asyncio.run(send(service.port, caption)).status == 200
        assert service.get("/health/ready")[0] == 200
        postgres.start()
        _posts_in_the_end(service, f"after {mode}")
    kept = comments(service.get("/v1/feedback/export")[1])
    assert sorted(kept) == sorted([*(f"before-{number}" for number in range(10)), "after fast", "after immediate"])


def test_postgresql_comes_after_the_service(start: Start, postgres: Postgres, caption: bytes) -> None:
    postgres.stop("fast")
    service = start(secret=SECRET, database_url=postgres.url)
    assert asyncio.run(send(service.port, caption)).status == 200
    problem(_post(service, "before"), 503, "store-unavailable")
    postgres.start()
    _posts_in_the_end(service, "after")
    assert comments(service.get("/v1/feedback/export")[1]) == ["after"]


def test_a_copy_of_the_data_of_a_killed_service_is_whole(start: Start) -> None:
    """SQLite's write-ahead log is among the files that a backup must take."""
    service = start(secret=SECRET)
    acknowledged = [str(number) for number in range(50) if _post(service, str(number)).status == 201]
    service.kill()
    copy = Path(tempfile.mkdtemp(prefix="captionist-copy-"))
    try:
        for path in service.data_dir.iterdir():
            shutil.copy(path, copy)
        again = start(data_dir=copy, secret=SECRET)
        assert sorted(comments(again.get("/v1/feedback/export")[1])) == sorted(acknowledged)
    finally:
        shutil.rmtree(copy)
