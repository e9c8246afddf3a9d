"""haproxy in the place of the Application Load Balancer; its servers come and go through its runtime API."""

import csv
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.processes import HttpProcess, free_port

_SLOTS = 64
# As deploy/aws/load_balancer.tf has it, only that health is asked for ten times as often. haproxy's own `retry-on
# conn-failure` stays: it tries another task where one took no connection, so where nothing was sent.
_CONFIG = """
global
  nbthread 1
  stats socket {folder}/api level admin
defaults
  mode http
  retries 3
  option redispatch 1
  timeout connect 1s
  timeout check 5s
  timeout client 60s
  timeout server 60s
  timeout queue 10s
frontend captions
  bind 127.0.0.1:{port}
  monitor-uri /balancer
  default_backend tasks
backend tasks
  balance leastconn
  option httpchk GET /health/ready
  http-check expect status 200
  server-template task 1-{slots} 127.0.0.1:1 check inter 1s rise 2 fall 3 disabled
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What the balancer knows of a task. requests: given to it so far; in_flight: those under way."""

    up: bool
    in_flight: int
    requests: int


class Balancer:
    """A running haproxy. A task keeps its number, from 1 on, which nothing after it gets."""

    def __init__(self, port: int, api: Path) -> None:
        self.port, self._api = port, api

    def register(self, number: int, address: str) -> None:
        """Send requests to a task once its health says so. address: IP:PORT."""
        host, _, port = address.rpartition(":")
        server = f"set server tasks/task{number}"
        # haproxy would take it for healthy until it has looked.
        self._command(f"{server} addr {host} port {port}; {server} state ready; {server} health down")

    def drain(self, number: int) -> None:
        """Send a task nothing more; what it has under way goes on."""
        self._command(f"set server tasks/task{number} state drain")

    def forget(self, number: int) -> None:
        """The task is gone."""
        self._command(f"set server tasks/task{number} state maint")

    def targets(self) -> dict[int, Target]:
        """All that were ever registered, by number."""
        rows = csv.DictReader(self._command("show stat").removeprefix("# ").splitlines())
        return {
            int(row["svname"].removeprefix("task")): Target(
                row["status"].startswith("UP"), int(row["scur"]), int(row["stot"])
            )
            for row in rows
            if row["pxname"] == "tasks" and row["svname"].startswith("task")
        }

    def _command(self, line: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._api))
            connection.sendall(f"{line}\n".encode())
            with connection.makefile(encoding="ascii") as answer:
                return answer.read()


@contextmanager
def balancing() -> Iterator[Balancer]:
    """A balancer with no tasks yet, on a free port of loopback."""
    with tempfile.TemporaryDirectory(prefix="captionist-fleet-") as folder:
        port, config = free_port(), Path(folder, "haproxy.cfg")
        config.write_text(_CONFIG.format(folder=folder, port=port, slots=_SLOTS), encoding="ascii")
        with HttpProcess(["haproxy", "-db", "-f", str(config)], port, "/balancer"):
            yield Balancer(port, Path(folder, "api"))
