"""Tables of captions, made by the real command and read by pyarrow."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import parquet

# The command, which here writes after every eight rows, and not only after some seconds.
COMMAND = [
    sys.executable,
    "-c",
    "import captionist.collection.table as t; t.MOST_ROWS = 8; from captionist.cli import main; main()",
    "caption",
]


def rows(table: Path) -> list[dict[str, Any]]:
    """By path. Every file of the table must be readable."""
    return sorted(parquet.read_table(table).to_pylist(), key=lambda row: row["path"])


def paths(table: Path) -> list[str]:
    return [row["path"] for row in rows(table)]


@contextmanager
def start(
    arguments: Sequence[object], before: Sequence[str] = (), **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """The command with these arguments, in the background; it does not outlive the context. before: what starts it."""
    with subprocess.Popen(
        [*before, *COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def is_pending(process: "subprocess.Popen[str]", number: int) -> bool:
    """Whether a sent signal has not arrived yet; once it has, Python handles it before anything else."""
    if process.poll() is not None or number == signal.SIGKILL:
        return process.poll() is None
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = int(re.findall(r"ShdPnd:\s+(\w+)", status)[0], 16)
    return bool(pending >> number - 1 & 1)


class Pipe:
    """A picture that comes through a named pipe: reading it blocks its reader in the middle of the work."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path

    def wait_for_reader(self, seconds: float) -> int:
        """The pipe's other end, opened; closing it ends the picture. Raises TimeoutError."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            try:
                return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads
                time.sleep(0.02)
        raise TimeoutError(f"nobody reads {self.path}")
