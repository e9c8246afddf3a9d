"""The tools that build and run containers."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.tools import missing

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy" / "container"
SETTINGS = {"CONTAINERS_CONF": str(CONTAINER / "containers.conf")}
# As Fargate runs it; health is asked by the tests, since podman would need systemd for it.
ISOLATED = (
    "--no-healthcheck", "--pull=never", "--read-only", "--tmpfs=/tmp", "--cap-drop=all",
    "--security-opt=no-new-privileges",
)  # fmt: skip


def tool(name: str) -> str:
    """A program's path: from this environment, or from the machine."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    return found or missing(name)


def run(*command: object, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run([*map(str, command)], cwd=ROOT, env=SETTINGS | os.environ, capture_output=True, text=True)
    assert expect is None or ended.returncode == expect, ended.stdout + ended.stderr
    return ended


def podman(*arguments: object, expect: int | None = 0) -> str:
    return run(tool("podman"), *arguments, expect=expect).stdout.strip()


@cache
def built_image() -> str:
    """The image's name, once it is built."""
    for name in ("buildah", "podman", "runc", "mmdebstrap", "slirp4netns"):
        tool(name)
    tag = "localhost/captionist:test"
    run(CONTAINER / "build.sh", tag)
    return tag
