"""What some operating systems lack: with it, and without."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from captionist import system
from tests.tools import small_disk

# macOS has no posix_fallocate and no affinity, Windows no resource and no C library of that name.
ELSEWHERE = """
import ctypes, os, sys
for name in ("posix_fallocate", "posix_fadvise", "sched_getaffinity", "memfd_create"):
    delattr(os, name)
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
"""


@pytest.fixture(params=["Linux", "elsewhere"])
def _on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "elsewhere":
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setitem(sys.modules, "resource", None)


@pytest.mark.usefixtures("_on")
def test_room_is_taken_and_the_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(3_000_001)
    system.take_room(path)
    assert path.stat().st_blocks * 512 >= 3_000_001
    assert path.read_bytes() == bytes(3_000_001)


@pytest.mark.usefixtures("_on")
def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2048):
        path = tmp_path / "disk" / "file"
        with path.open("wb") as file:
            file.truncate(8_000_000)
        with pytest.raises(OSError, match="No space left"):
            system.take_room(path)


@pytest.mark.usefixtures("_on")
def test_a_process_has_cores() -> None:
    assert 1 <= system.schedulable_cores() <= (os.cpu_count() or 1)


@pytest.mark.usefixtures("_on")
def test_limits_are_raised_where_there_are_any() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    system.raise_file_limit()
    system.share_heaps()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("captionist", "numpy, onnxruntime"),
        ("captionist.cli", "numpy"),
        ("captionist.server.run", "numpy, onnxruntime, uvicorn, uvloop, psycopg"),
        ("captionist.training.pictures", "torch, transformers, psutil"),
    ],
)
def test_modules_can_be_imported_elsewhere(module: str, libraries: str) -> None:
    script = f"import {libraries}{ELSEWHERE}import {module}"
    subprocess.run([sys.executable, "-c", script], check=True)
