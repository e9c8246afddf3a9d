"""A service in a process of its own, and what can be sent to it byte for byte."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds that a client waits."""


@dataclass
class Running:
    """A service; log and errors: its standard output and standard error."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    errors: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> int:
        """Bytes resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def line(self, **fields: str) -> dict[str, Any]:
        """The one line of the log with these fields; it is written after the answer."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            text = self.log.read_text()
            lines: list[dict[str, Any]] = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
            found = [line for line in lines if fields.items() <= line.items()]
            if found:
                assert len(found) == 1
                return found[0]
            time.sleep(0.01)
        raise AssertionError(f"no line with {fields}")

    def send(self, sent: bytes, leave: bool = False) -> bytes:
        """All that comes back until the service hangs up. leave: the client ends the connection once it has sent."""
        with closing(socket.create_connection(("127.0.0.1", self.port), PATIENCE)) as connection:
            received = b""
            try:
                connection.sendall(sent)
                if leave:
                    connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    received += part
            except ConnectionError:
                pass  # it hung up while we were still sending
            return received


@contextmanager
def running(directory: Path, environment: Mapping[str, str] | None = None, **settings: str) -> Iterator[Running]:
    """Start a service with these settings and other variables, and kill it at the end."""
    log, errors = directory / "log", directory / "errors"
    with log.open("wb") as sink, errors.open("wb") as trouble:
        process = subprocess.Popen(
            [sys.executable, "-m", "captionist.cli", "serve", "--port", "0"],
            cwd=directory,
            env={
                "PATH": "/usr/bin:/bin",
                **{f"CAPTIONIST_{name.upper()}": value for name, value in settings.items()},
                **(environment or {}),
            },
            stdout=sink,
            stderr=trouble,
        )
    try:
        while not (found := re.search(r'"address": "http://127\.0\.0\.1:(\d+)"', log.read_text())):
            assert process.poll() is None, errors.read_text()
            time.sleep(0.05)
        yield Running(process, int(found[1]), log, errors)
    finally:
        process.kill()
        process.wait()
