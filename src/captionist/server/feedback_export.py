"""Exports feedback, for people and for training."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC

from captionist.server.store.tables import Feedback

_FIELDS = (
    "id", "client", "model", "model_version", "caption", "log_probability", "confidence", "picture_sha256", "rating",
    "correction", "comment",
)  # fmt: skip


def as_jsonl(rows: Iterable[tuple[Feedback, bytes | None]]) -> Iterator[bytes]:
    """One JSON object per line and feedback."""
    for feedback, jpeg in rows:
        # SQLite drops the time zone, which is always UTC.
        entry = {"created_at": feedback.created_at.replace(tzinfo=UTC).isoformat(), "picture_kept": jpeg is not None}
        entry |= {name: getattr(feedback, name) for name in _FIELDS}
        yield json.dumps(entry).encode() + b"\n"


def as_corpus(rows: Iterable[tuple[Feedback, bytes | None]]) -> Iterator[bytes]:
    """A ZIP with `captions.txt` and `Images/`, the layout of Flickr8k on Kaggle.

    It holds every kept picture for which a person wrote a better caption, or called ours good. A picture is named after
    its digest, so that what several people say about it comes together.
    """
    sink = _Sink()
    captions = io.StringIO()
    table = csv.writer(captions, lineterminator="\n")
    table.writerow(["image", "caption"])
    written: set[str] = set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for feedback, jpeg in rows:
            text = feedback.correction or (feedback.caption if feedback.rating == "good" else None)
            if jpeg is None or text is None:
                continue
            name = f"{feedback.picture_sha256[:32]}.jpg"
            table.writerow([name, " ".join(text.split())])
            if name not in written:
                written.add(name)
                archive.writestr(f"Images/{name}", jpeg)
            yield sink.take()
        archive.writestr("captions.txt", captions.getvalue())
    yield sink.take()


class _Sink(io.RawIOBase):
    """Collects what is written until it is taken. It cannot seek, so zipfile writes straight on."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
