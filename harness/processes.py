"""Real processes: started on loopback, paused between their turns, with memory and time read from /proc."""

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

HOST = "127.0.0.1"
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_START_TIMEOUT = 120  # seconds


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Measured:
    """A process and the workers that it starts, as one group.

    log, errors: files with its standard output and standard error.
    environment: added to this process's own variables, of which the service's settings are left out.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="captionist-process-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.log, self.errors = self.folder / "log", self.folder / "errors"
        self.command = list(command)
        own = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONIST_")}
        self.environment = own | dict(environment or {})
        self.start()

    def start(self) -> None:
        """Start it, or start it again after it has ended."""
        with self.log.open("ab") as log, self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=errors,
                env=self.environment,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.kill()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the process and all its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def pause(self) -> None:
        """Take no time from others during their turn: an idle server polls, and a thread pool spins."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def terminate(self, timeout: float) -> int:
        """Send SIGTERM to the process itself; returns its exit code. Raises subprocess.TimeoutExpired."""
        self.process.terminate()
        return self.process.wait(timeout)

    def cpu_seconds(self) -> float:
        """Processor time used so far by all living processes of the group."""
        return sum((int(fields[11]) + int(fields[12])) / _TICK for fields in self._stats())

    def rss(self) -> int:
        """Resident bytes of the whole group; pages shared by its processes count once for each."""
        return sum(int(fields[21]) * _PAGE for fields in self._stats())

    def _stats(self) -> list[list[str]]:
        """The fields of /proc/PID/stat from the state on, which is number 3 in proc(5)."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.pid:
                    found.append(fields)
        return found

    def fail(self, what: str) -> RuntimeError:
        """An error that shows the end of its output."""
        written = "".join(path.read_text(errors="replace")[-3000:] for path in (self.log, self.errors))
        return RuntimeError(f"{what}:\n{written}")


class Elsewhere:
    """How busy the machine was with other processes than the measured ones and this one."""

    def __init__(self, process: Measured) -> None:
        self._process, self._begun, self._before = process, time.monotonic(), self._seconds(process)

    def cores(self) -> float:
        """Other processes' time since the beginning, in cores."""
        return (self._seconds(self._process) - self._before) / (time.monotonic() - self._begun)

    @staticmethod
    def _seconds(process: Measured) -> float:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return (sum(fields) - idle) / _TICK - process.cpu_seconds() - own_cpu_seconds()


def own_cpu_seconds() -> float:
    """Processor time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class HttpProcess(Measured):
    """A process that serves HTTP on loopback."""

    def __init__(
        self, command: Sequence[str], port: int, ready: str, *, environment: Mapping[str, str] | None = None
    ) -> None:
        """ready: the path that answers 200 once it serves."""
        self.port, self._ready = port, ready
        self.url = f"http://{HOST}:{port}"
        super().__init__(command, environment=environment)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Raises RuntimeError if it ends, or does not serve in time."""
        give_up = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise self.fail(f"{self.command} ended with {self.process.returncode}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get(self._ready)[0] == 200:
                    return
            time.sleep(0.02)
        raise self.fail(f"{self.command} does not serve")

    def get(self, path: str, timeout: float = 10) -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Service(HttpProcess):
    """The real `captionist serve`, on a free port, with its own data directory."""

    def __init__(
        self,
        *arguments: str,
        command: Sequence[str] | None = None,
        data_dir: Path | None = None,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """settings: the service's, in lower case. command: what to run instead of `captionist serve`.

        arguments: the command's. environment: variables that are not settings of the service.
        """
        port = port or free_port()
        own = tempfile.mkdtemp(prefix="captionist-data-") if data_dir is None else None
        self.data_dir = data_dir or Path(own or "")
        self._own_data = own
        given = {"data_dir": str(self.data_dir), "port": port, **settings}
        variables = {f"CAPTIONIST_{name.upper()}": _written(value) for name, value in given.items()}
        serve = [*(command or (str(Path(sys.executable).with_name("captionist")), "serve")), *arguments]
        super().__init__(serve, port, "/health/ready", environment=variables | dict(environment or {}))

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._own_data:
            shutil.rmtree(self._own_data)

    def metric(self, name: str, **labels: str) -> float:
        """The sum over a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics")[1].decode())
        samples = (sample for family in families for sample in family.samples)
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
