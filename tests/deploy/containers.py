"""The tools that build and run containers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tools import missing

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy" / "container"


def tool(name: str) -> str:
    """A program's path: from this environment, or from the machine."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    return found or missing(name)


def run(*command: object, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    settings = {"CONTAINERS_CONF": str(CONTAINER / "containers.conf"), **os.environ}
    ended = subprocess.run([*map(str, command)], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert expect is None or ended.returncode == expect, ended.stdout + ended.stderr
    return ended


def podman(*arguments: object, expect: int | None = 0) -> str:
    return run(tool("podman"), *arguments, expect=expect).stdout.strip()
