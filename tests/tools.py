"""Tools that some tests need and not every machine has."""

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test, or the module that is being collected; in CI, where everything must be installed, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing", pytrace=False)
    pytest.skip(f"{what} is missing", allow_module_level=True)


COMMAND = (sys.executable, "-m", "captionist.cli")


def command(*arguments: str | bytes | Path, script: str = '"$@"', **options: Any) -> subprocess.CompletedProcess[Any]:
    """captionist as a separate process; script: how the shell starts it, such as `"$@" >&-`."""
    shell = ["sh", "-c", script, "sh", *COMMAND, *arguments]
    return subprocess.run(shell, capture_output=True, **options)


def unprivileged() -> list[str]:
    """The start of a command that must obey permissions, although root runs these tests."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        missing("setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


def wait_until(condition: Callable[[], object], patience: float = 120) -> None:
    """Return as soon as it holds; raise TimeoutError if it does not, after far longer than it can take."""
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("what the test waits for has not come")
        time.sleep(0.005)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Mount a file system of that size on a new folder; skip the test where that may not be done."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def on_a_terminal(*command: str | Path, columns: int = 80, typed: bytes = b"") -> tuple[int, bytes]:
    """The exit code, and all that the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.write(ours, typed)
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"})
    os.close(theirs)
    screen = b""
    with suppress(OSError):  # how Linux says that the other end was closed
        while part := os.read(ours, 65536):
            screen += part
    os.close(ours)
    return process.wait(), screen
