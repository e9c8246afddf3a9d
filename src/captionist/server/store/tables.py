"""The tables. A change here needs a migration in `migrations/versions`; a test holds both to the same schema."""

from datetime import datetime

from sqlalchemy import DateTime, Float, ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What the tables share."""


class Feedback(Base):
    """What one person thought of one caption."""

    __tablename__ = "feedback"
    # Without a key the column is null, and nulls never collide.
    __table_args__ = (UniqueConstraint("client", "idempotency_key", name="feedback_idempotency"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    client: Mapped[str] = mapped_column(String(40))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(Text)
    model_version: Mapped[str] = mapped_column(Text)
    caption: Mapped[str] = mapped_column(Text)
    log_probability: Mapped[float] = mapped_column(Float)
    confidence: Mapped[float] = mapped_column(Float)
    picture_sha256: Mapped[str] = mapped_column(String(64))
    rating: Mapped[str] = mapped_column(String(4))
    correction: Mapped[str | None] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)


class KeptPicture(Base):
    """A picture that its user gave for training: JPEG, scaled down, without metadata."""

    __tablename__ = "kept_picture"

    feedback_id: Mapped[str] = mapped_column(ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True)
    jpeg: Mapped[bytes] = mapped_column(LargeBinary)
