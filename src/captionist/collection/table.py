"""The table of captions: a folder of Parquet files, each written whole or not at all, that another run can continue."""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import fs, parquet

from captionist.collection.blocks import Row
from captionist.collection.storage import locate, reason
from captionist.errors import CollectionError
from captionist.ownfiles import TABLE_LOCK, TABLE_MANIFEST

_UNFINISHED = ".unfinished-"

MOST_ROWS = 10_000
MOST_SECONDS = 10.0
"""What a killed run has to repeat: at most this many rows, and this many seconds."""

SCHEMA = pa.schema(
    {
        field.name: pa.float64() if field.name in ("log_probability", "confidence") else pa.string()
        for field in fields(Row)
    }
)


class Table:
    """Rows by path, on disk or in a bucket.

    While it is open as a context, no other process may use it (in a bucket, nothing checks that). done: the paths of
    its rows, except those whose picture could not be read. answers: for each sha256, a row with a caption or an error.
    failed: the paths of rows with an error. All three grow with what is added.
    """

    def __init__(self, where: str, made_with: Mapping[str, Any]) -> None:
        """where: the folder, as a path or a URL: new, empty, or written by an earlier run. made_with: the settings, as
        in JSON.

        Raises ValueError if the folder holds something else, or was made with other settings; CollectionError if it
        cannot be read or written, or another run is using it.
        """
        self.where = where
        self._system, self._root = locate(where)
        self._made_with = {"format": 1, **made_with}
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.answers: dict[str, Row] = {}
        self._waiting: list[Row] = []
        self._written = time.monotonic()
        self._run, self._parts = uuid.uuid4().hex[:12], 0
        is_local = isinstance(self._system, fs.LocalFileSystem)
        self._lock = FileLock(Path(self._root, TABLE_LOCK)) if is_local else None
        try:
            self._open()
        except OSError as error:
            self._unlock()
            raise self._unusable(error) from error
        except (ValueError, CollectionError):
            self._unlock()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Waiting rows are written, however the context is left."""
        try:
            self.flush()
        finally:
            self._unlock()

    def add(self, row: Row) -> None:
        """Take a row; write the waiting rows once they are many or have waited long. Raises CollectionError."""
        self._count(row)
        self._waiting.append(row)
        if len(self._waiting) >= MOST_ROWS or time.monotonic() - self._written > MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows. Raises CollectionError; they then keep waiting."""
        if self._waiting:
            rows = pa.Table.from_pylist([asdict(row) for row in self._waiting], SCHEMA)
            self._write(f"part-{self._run}-{self._parts:05}.parquet", rows)
            self._parts += 1
            self._waiting.clear()
        self._written = time.monotonic()

    def _open(self) -> None:
        there = self._system.get_file_info(self._root)
        names: list[str] = []
        if there.type == fs.FileType.File:
            raise ValueError(
                f"{self.where} is a file: name a folder for the table, a new one or that of an earlier run"
            )
        if there.type == fs.FileType.Directory:
            names = [info.base_name for info in self._system.get_file_info(fs.FileSelector(self._root))]
        else:
            self._system.create_dir(self._root, recursive=False)
        foreign = [name for name in names if name != TABLE_LOCK and not name.startswith(_UNFINISHED)]
        if foreign and TABLE_MANIFEST not in names:
            raise ValueError(f"{self.where} holds something other than captions: name another folder")
        if self._lock:
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise CollectionError(
                    f"{self.where}: another run is writing to it: wait until it has finished"
                ) from error
        if TABLE_MANIFEST in names:
            self._check_manifest()
        unfinished = {name for name in names if name.startswith(_UNFINISHED)}
        for name in unfinished:
            self._system.delete_file(self._path(name))
        if TABLE_MANIFEST not in names:
            self._write_bytes(TABLE_MANIFEST, json.dumps(self._made_with, indent=2).encode())
        for name in sorted({*names} - unfinished):
            if name.endswith(".parquet"):
                self._resume(name)

    def _check_manifest(self) -> None:
        with self._system.open_input_stream(self._path(TABLE_MANIFEST)) as file:
            content = file.read()
        try:
            before = json.loads(content)
        except ValueError:
            before = None
        if before != json.loads(json.dumps(self._made_with)):
            raise ValueError(
                f"{self.where} was made with another model or other options ({TABLE_MANIFEST} there has them): use "
                "the same, or name another folder"
            )

    def _resume(self, name: str) -> None:
        """Take over the rows of a file. Rows of unreadable pictures are removed from it, to be tried again."""
        try:
            rows = parquet.read_table(self._path(name), filesystem=self._system, schema=SCHEMA)
        except (pa.ArrowInvalid, KeyError) as error:
            raise CollectionError(
                f"{self.where}/{name} is damaged ({reason(error)}): delete it and run again"
            ) from error
        kept = rows.filter(rows["sha256"].is_valid())
        if kept.num_rows == 0:
            self._system.delete_file(self._path(name))
        elif kept.num_rows < rows.num_rows:
            self._write(name, kept)
        for row in kept.to_pylist():
            self._count(Row(**row))

    def _count(self, row: Row) -> None:
        self.done.add(row.path)
        if row.error is not None:
            self.failed.add(row.path)
        if row.sha256 is not None:
            self.answers.setdefault(row.sha256, row)

    def _write(self, name: str, rows: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        parquet.write_table(rows, sink, compression="zstd")
        try:
            self._write_bytes(name, sink.getvalue())
        except OSError as error:
            raise self._unusable(error) from error

    def _write_bytes(self, name: str, content: Any) -> None:
        unfinished = self._path(_UNFINISHED + name)
        with self._system.open_output_stream(unfinished) as file:
            file.write(content)
        self._system.move(unfinished, self._path(name))

    def _unlock(self) -> None:
        if self._lock:
            self._lock.release()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _unusable(self, error: OSError) -> CollectionError:
        return CollectionError(
            f"{self.where} cannot be used ({reason(error)}): check what is in the way, or name another folder"
        )
