"""Feedback that is acknowledged is kept: every write is a transaction that has reached the disk."""

import hashlib
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, delete, event, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from captionist.server.caption_ids import CaptionRecord
from captionist.server.store.migrate import migrate
from captionist.server.store.tables import Feedback, KeptPicture

_PATIENCE = 5  # seconds to wait for a database that is locked or does not answer


class StoreError(Exception):
    """The database did not do what it was asked, and nothing is half done."""


class IdempotencyMismatchError(Exception):
    """The idempotency key was used before, for other feedback."""


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """Feedback to be stored. jpeg: the picture, if it may be kept."""

    client: str
    idempotency_key: str | None
    record: CaptionRecord
    rating: str
    correction: str | None
    comment: str | None
    jpeg: bytes | None

    @property
    def digest(self) -> str:
        """The same for two requests with one idempotency key if they are the same."""
        picture = hashlib.sha256(self.jpeg).hexdigest() if self.jpeg else None
        parts = [self.record.nonce, self.rating, self.correction, self.comment, picture]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """A receipt. replayed: it was stored by an earlier request with the same idempotency key."""

    id: str
    picture_kept: bool
    replayed: bool


class FeedbackStore:
    """The feedback in a database. Blocking, and safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """url: SQLAlchemy's. Connects to nothing yet: a database that is down may come back later."""
        self._engine = _connect(url)
        self._prepared, self._preparing = False, threading.Lock()

    def prepare(self) -> None:
        """Bring the schema up to date, unless that was done; every method below does this first. Raises StoreError."""
        if self._prepared:
            return
        if not self._preparing.acquire(timeout=_PATIENCE):
            raise StoreError("the feedback database is still being prepared")
        try:
            if not self._prepared:
                with _translated():
                    migrate(self._engine)
                self._prepared = True
        finally:
            self._preparing.release()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        self.prepare()
        with _translated(), Session(self._engine, expire_on_commit=False) as session:
            yield session

    def add(self, new: NewFeedback) -> Stored:
        """Store feedback, once for each idempotency key. Raises StoreError, IdempotencyMismatchError."""
        row = Feedback(
            id=str(uuid.uuid4()),
            created_at=datetime.now(UTC),
            client=new.client,
            idempotency_key=new.idempotency_key,
            request_sha256=new.digest,
            model=new.record.model,
            model_version=new.record.version,
            caption=new.record.text,
            log_probability=new.record.log_probability,
            confidence=new.record.confidence,
            picture_sha256=new.record.picture_sha256,
            rating=new.rating,
            correction=new.correction,
            comment=new.comment,
        )
        with self._session() as session:
            try:
                with session.begin():
                    session.add(row)
                    session.flush()
                    if new.jpeg is not None:
                        session.add(KeptPicture(feedback_id=row.id, jpeg=new.jpeg))
            except IntegrityError:
                if new.idempotency_key is None:
                    raise
                return _earlier(session, new)
        return Stored(row.id, new.jpeg is not None, replayed=False)

    def delete(self, feedback_id: str) -> bool:
        """Delete feedback and its picture; whether there was any. Raises StoreError."""
        with self._session() as session, session.begin():
            session.execute(delete(KeptPicture).where(KeptPicture.feedback_id == feedback_id))
            gone = session.execute(delete(Feedback).where(Feedback.id == feedback_id).returning(Feedback.id))
            return gone.first() is not None

    def export(self) -> Iterator[tuple[Feedback, bytes | None]]:
        """All feedback, oldest first, each with its picture if that was kept. Raises StoreError."""
        query = (
            select(Feedback, KeptPicture.jpeg)
            .join(KeptPicture, KeptPicture.feedback_id == Feedback.id, isouter=True)
            .order_by(Feedback.created_at, Feedback.id)
            .execution_options(yield_per=50)
        )
        with self._session() as session:
            yield from session.execute(query)

    def ping(self) -> None:
        """Raises StoreError if the database does not answer."""
        with self._session() as session:
            session.execute(select(Feedback.id).limit(1))

    def close(self) -> None:
        """Return the connections."""
        self._engine.dispose()


def _earlier(session: Session, new: NewFeedback) -> Stored:
    earlier = session.scalars(
        select(Feedback).where(Feedback.client == new.client, Feedback.idempotency_key == new.idempotency_key)
    ).one()
    if earlier.request_sha256 != new.digest:
        raise IdempotencyMismatchError
    kept = session.get(KeptPicture, earlier.id) is not None
    return Stored(earlier.id, kept, replayed=True)


def _connect(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": _PATIENCE})
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    patience = {"connect_timeout": _PATIENCE, "options": f"-c statement_timeout={_PATIENCE * 1000}"}
    return create_engine(url, connect_args=patience, pool_pre_ping=True, pool_timeout=_PATIENCE)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    # Readers and the writer do not wait for each other. FULL: when a commit returns, it has reached the disk.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, CommandError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise StoreError(f"the feedback database failed ({' '.join(str(cause).split())})") from error
