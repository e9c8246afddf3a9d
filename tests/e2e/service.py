"""The real service as a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

_PATIENCE = 180  # seconds: for loading the model on a machine that is busy with other things


@dataclass(frozen=True)
class Service:
    """A running `captionist serve`."""

    url: str
    process: subprocess.Popen[bytes]

    def feedback(self) -> list[dict[str, Any]]:
        """Everything stored, oldest first. On loopback and without keys, everybody is an administrator."""
        answer = httpx2.get(f"{self.url}/v1/feedback/export").raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(_PATIENCE)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(folder: Path, port: int, **settings: str) -> Iterator[Service]:
    """The service with its data in a folder and with settings such as `keep_pictures="true"`, ready for requests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONIST_")}
    settings = {"deadline": str(_PATIENCE), **settings}
    environment |= {f"CAPTIONIST_{name.upper()}": value for name, value in settings.items()}
    environment["CAPTIONIST_DATA_DIR"] = str(folder / "data")
    log = folder / "log"
    command = [str(Path(sys.executable).with_name("captionist")), "serve", "--port", str(port)]
    with log.open("ab") as sink:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=sink, stderr=sink)
    service = Service(f"http://127.0.0.1:{port}", process)
    try:
        _wait_until_ready(service, log)
        yield service
    finally:
        service.stop()


def _wait_until_ready(service: Service, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and service.process.poll() is None:
        try:
            if httpx2.get(f"{service.url}/health/ready").is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the service did not become ready:\n{log.read_text()}")
