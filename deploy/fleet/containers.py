"""Tasks: containers of our image under podman, with the limits that Fargate's smallest task has."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from deploy.fleet.metrics import embedded

CPUS = 0.25
_GRACE = 30  # seconds from SIGTERM to SIGKILL; stopTimeout in deploy/aws
_LABEL = "captionist-fleet"
_PORT = 8000
# The bridge gives every task an address of its own, as Fargate's awsvpc does. Nobody takes a task's processor time
# there: so here it comes before whatever else the machine runs.
_LIMITS = (
    "--no-healthcheck", "--pull=never",
    f"--cpus={CPUS}", "--cgroup-parent=/", "--cpu-shares=65536", "--memory=1g", "--read-only", "--tmpfs=/tmp",
    "--cap-drop=all", "--security-opt=no-new-privileges", "--network=bridge", f"--label={_LABEL}={os.getpid()}",
)  # fmt: skip
_ENVIRONMENT = os.environ | {
    "CONTAINERS_CONF": str(Path(__file__).parents[1] / "container" / "containers.conf"),
}


@dataclass(frozen=True)
class Revision:
    """What a task is started from. model: a bundle's folder; None is the one in the image."""

    name: str
    environment: Mapping[str, str]
    model: Path | None = None


class State(StrEnum):
    STARTING, READY, DRAINING, ENDED = "starting", "ready", "draining", "ended"


@dataclass(eq=False)
class Task:
    """A container. reported: embedded metrics that nobody has read yet; exit_code: None while it runs."""

    number: int
    revision: Revision
    state: State = State.STARTING
    address: str = ""
    exit_code: int | None = None
    created: float = field(default_factory=time.monotonic)
    reported: list[dict[str, float]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """What it wrote that is neither metrics nor a request."""
    _pid: int = 0

    @property
    def name(self) -> str:
        return f"{_LABEL}-{os.getpid()}-{self.number}"

    async def run(self, image: str) -> None:
        """Start it. Raises RuntimeError where podman cannot."""
        options = [f"--name={self.name}"]
        environment = dict(self.revision.environment)
        if self.revision.model:
            options.append(f"--volume={self.revision.model}:/model:ro")
            environment["CAPTIONIST_MODEL"] = "/model"
        options += [f"--env={name}={value}" for name, value in environment.items()]
        await _podman("run", "--detach", *_LIMITS, *options, image)
        (facts,) = json.loads(await _podman("inspect", self.name))
        self._pid = facts["State"]["Pid"]
        self.address = f"{facts['NetworkSettings']['Networks']['podman']['IPAddress']}:{_PORT}"

    async def follow(self) -> None:
        """Read its log until it ends."""
        reader = await asyncio.create_subprocess_exec(
            "podman", "logs", "--follow", self.name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_ENVIRONMENT
        )
        assert reader.stdout
        try:
            async for line in reader.stdout:
                self._read(line.decode(errors="replace"))
        finally:
            with suppress(ProcessLookupError):
                os.kill(reader.pid, signal.SIGKILL)  # reader.kill() would take the exit code from asyncio
            await reader.wait()
        self.exit_code = int(await _podman("wait", self.name))

    def _read(self, line: str) -> None:
        if metrics := embedded(line):
            self.reported.append(metrics)
        elif '"event": "request"' not in line:
            self.log.append(line.rstrip())

    async def kill(self) -> None:
        """SIGKILL, without podman's taking its time over it; returns when it is dead."""
        status = Path(f"/proc/{self._pid}/stat")
        os.kill(self._pid, signal.SIGKILL)
        with suppress(OSError):  # reaped
            while status.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z":
                await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL where that was not enough."""
        await _podman("stop", f"--time={_GRACE}", self.name)

    async def remove(self) -> None:
        await _podman("rm", "--force", "--volumes", self.name)


def remove_all() -> None:
    """Every container that this process started, at once."""
    command = ["podman", "ps", "--all", "--quiet", f"--filter=label={_LABEL}={os.getpid()}"]
    names = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=True).stdout.split()
    if names:
        command = ["podman", "rm", "--force", "--time=0", "--volumes", *names]
        subprocess.run(command, env=_ENVIRONMENT, capture_output=True, check=False)


async def _podman(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "podman", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_ENVIRONMENT
    )
    try:
        output, errors = await process.communicate()
    finally:
        await process.wait()  # also where we are cancelled: what it starts must be there to be removed
    if process.returncode:
        raise RuntimeError(f"podman {arguments[0]}: {errors.decode(errors='replace').strip()}")
    return output.decode()
