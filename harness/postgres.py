"""A real PostgreSQL on loopback, for as long as it is needed; meanwhile, it can be stopped and started again."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from harness.processes import free_port


def binaries() -> Path | None:
    """Where initdb and pg_ctl are; None if PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Postgres:
    """A cluster of its own, with default durability (fsync on)."""

    def __init__(self) -> None:
        programs = binaries()
        if programs is None:
            raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="captionist-postgres-"))
        self._user = _unprivileged(self._folder)
        self.port = free_port()
        self.url = f"postgresql://captionist@127.0.0.1:{self.port}/postgres"
        self._data = self._folder / "data"
        self._run("initdb", "-D", str(self._data), "-U", "captionist", "--auth=trust", "-E", "UTF8")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; mode: "fast" closes its connections in good order, "immediate" does not."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        # The server that it starts runs on, and would keep a pipe open.
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._user)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """PostgreSQL does not run as root: if we are root, another user owns the folder."""
    if os.getuid() != 0:
        return {}
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "cwd": folder}
