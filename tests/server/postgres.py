"""A real PostgreSQL, for as long as the tests run."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """The URL of a database on loopback; skips the test where PostgreSQL is not installed (in CI that fails)."""
    binaries = _binaries()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed")
    as_user = _unprivileged(directory)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = directory / "pg"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user)  # type: ignore[call-overload]

    run(str(binaries / "initdb"), "-D", str(data), "-U", "captionist", "--auth=trust", "-E", "UTF8")
    control = (str(binaries / "pg_ctl"), "-D", str(data), "-w")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={directory} -c fsync=off"
    run(*control, "-l", str(directory / "log"), "-o", options, "start")
    try:
        yield f"postgresql://captionist@127.0.0.1:{port}/postgres"
    finally:
        run(*control, "-m", "immediate", "stop")


def _unprivileged(directory: Path) -> dict[str, object]:
    """PostgreSQL does not run as root: then another user owns the directory."""
    if os.getuid() != 0:
        return {}
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    for parent in (directory, *directory.parents):  # pytest's folders are closed to others
        if parent.stat().st_uid == 0 and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    shutil.chown(directory, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid}
