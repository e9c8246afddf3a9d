"""The feedback store, on SQLite and on a real PostgreSQL."""

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from captionist.server.caption_ids import CaptionRecord
from captionist.server.settings import Settings
from captionist.server.store.calls import StoreCalls
from captionist.server.store.store import FeedbackStore, IdempotencyMismatchError, NewFeedback, StoreError
from captionist.server.store.tables import Base
from harness.postgres import Postgres, binaries
from tests.tools import missing

RECORD = CaptionRecord("model", "1", "A dog runs.", -3.5, 0.6, "0" * 64, "nonce")
FEEDBACK = NewFeedback("site", "key", RECORD, "bad", "Ein Hund 🐕 rennt.", None, b"jpeg")


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if binaries() is None:
        missing("PostgreSQL (apt-get install postgresql)")
    with Postgres() as postgres:
        yield postgres.url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path).sqlalchemy_url
    found = Settings(database_url=request.getfixturevalue("postgres_url")).sqlalchemy_url
    engine = create_engine(found)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return found


@pytest.fixture
def store(url: str) -> Iterator[FeedbackStore]:
    opened = FeedbackStore(url)
    yield opened
    opened.close()


def test_what_is_added_is_there_after_a_restart(url: str) -> None:
    first = FeedbackStore(url)
    stored = first.add(FEEDBACK)
    first.close()
    second = FeedbackStore(url)
    ((feedback, jpeg),) = second.export()
    second.close()
    assert (feedback.id, feedback.correction, feedback.caption, jpeg) == (
        stored.id,
        "Ein Hund 🐕 rennt.",
        "A dog runs.",
        b"jpeg",
    )


def test_many_at_once_with_one_idempotency_key_are_one(store: FeedbackStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(store.add, [FEEDBACK] * 24))
    assert len({one.id for one in stored}) == 1
    assert sum(not one.replayed for one in stored) == 1
    assert all(one.picture_kept for one in stored)
    assert len(list(store.export())) == 1


def test_an_idempotency_key_is_a_clients_own_and_for_one_request(store: FeedbackStore) -> None:
    store.add(FEEDBACK)
    with pytest.raises(IdempotencyMismatchError):
        store.add(replace(FEEDBACK, rating="good"))
    store.add(replace(FEEDBACK, client="other"))
    store.add(replace(FEEDBACK, idempotency_key=None))
    store.add(replace(FEEDBACK, idempotency_key=None))
    assert len(list(store.export())) == 4


def test_deletion_takes_the_picture_along(store: FeedbackStore) -> None:
    stored = store.add(FEEDBACK)
    assert store.delete(stored.id)
    assert not store.delete(stored.id)
    assert list(store.export()) == []
    store.add(FEEDBACK)
    assert [jpeg for _, jpeg in store.export()] == [b"jpeg"]


def test_the_migrations_make_the_schema_of_the_tables(store: FeedbackStore, url: str) -> None:
    store.ping()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def _open_and_add(url: str, key: str) -> None:
    store = FeedbackStore(url)
    store.add(replace(FEEDBACK, idempotency_key=key))
    store.close()


@pytest.mark.slow
def test_replicas_may_start_together(url: str) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_open_and_add, [url] * 4, "abcd"))
    store = FeedbackStore(url)
    assert len(list(store.export())) == 4
    store.close()


def test_a_database_of_a_later_version_is_a_store_error(store: FeedbackStore, url: str) -> None:
    store.prepare()
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with closing(FeedbackStore(url)) as again, pytest.raises(StoreError, match="9999"):
        again.prepare()


def test_a_database_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open"):
        FeedbackStore(f"sqlite:///{tmp_path}/missing/captionist.db").prepare()
    with pytest.raises(StoreError, match="refused"):
        FeedbackStore("postgresql+psycopg://nobody@127.0.0.1:1/none").prepare()


def test_a_database_that_comes_later_is_prepared_then(tmp_path: Path) -> None:
    store = FeedbackStore(f"sqlite:///{tmp_path}/later/captionist.db")
    for work in (store.prepare, store.ping, lambda: store.add(FEEDBACK), lambda: list(store.export())):
        with pytest.raises(StoreError):
            work()
    (tmp_path / "later").mkdir()
    with ThreadPoolExecutor(8) as pool:  # all of them find it unprepared
        stored = list(pool.map(lambda n: store.add(replace(FEEDBACK, idempotency_key=str(n))), range(8)))
    assert len({one.id for one in stored}) == len(list(store.export())) == 8
    store.close()


def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "captionist.db"
    path.write_bytes(b"something else entirely" * 100)
    with closing(FeedbackStore(f"sqlite:///{path}")) as store, pytest.raises(StoreError, match="not a database"):
        store.prepare()
    assert path.read_bytes() == b"something else entirely" * 100


def test_sqlite_waits_for_the_disk(tmp_path: Path) -> None:
    store = FeedbackStore(f"sqlite:///{tmp_path}/captionist.db")
    store.prepare()
    with store._engine.connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert "feedback" in inspect(connection).get_table_names()
    store.close()


def test_a_database_that_hangs_holds_up_no_more_calls_than_so_many(tmp_path: Path) -> None:
    async def run() -> None:
        calls, gate = StoreCalls(FeedbackStore(f"sqlite:///{tmp_path}/captionist.db")), threading.Event()
        waiting = [asyncio.create_task(calls.run(lambda _: gate.wait())) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="too many"):
            await calls.run(lambda _: gate.wait())
        waiting[0].cancel()
        gate.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1:] == [True] * 63
        assert await calls.run(lambda _: 1) == 1
        calls.close()

    asyncio.run(run())
