"""Captions on a real Ray, in a network namespace of its own, since Ray listens on all interfaces."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.collection.tables import Pipe, paths, rows, start
from tests.pictures import write_png
from tests.tools import missing

pytestmark = pytest.mark.collections

NAMESPACE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
PATIENCE = 540  # seconds; Ray starts in ten, or in minutes where others work on the same cores


@pytest.fixture(autouse=True)
def _ray() -> None:
    if importlib.util.find_spec("ray") is None:
        missing("ray")
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        missing("a network namespace (unshare, ip; root)")


def is_reading(process: str, pipe: Pipe) -> bool:
    try:
        return pipe.path in [descriptor.readlink() for descriptor in Path(f"/proc/{process}/fd").iterdir()]
    except OSError:  # it, or one of its files, is gone
        return False


def reader(pipe: Pipe, *others: int) -> int:
    """The actor that reads the pipe: not this process, nor earlier actors, which may take a while to die."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        for process in {path.name for path in Path("/proc").glob("[0-9]*")} - {*map(str, others), str(os.getpid())}:
            if is_reading(process, pipe):
                assert "ray::MapWorker" in Path(f"/proc/{process}/cmdline").read_text()
                return int(process)
        time.sleep(0.02)
    raise TimeoutError(f"nobody reads {pipe.path}")


def test_a_killed_actor_loses_nothing_and_doubles_nothing(model: Path, photos: Path, tmp_path: Path) -> None:
    """One of two actors is killed in the middle of a block, which another one then does."""
    for seed in range(100, 180):
        write_png(photos / f"{seed}.png", seed)
    for copy in range(20):
        shutil.copy(photos / "00.png", photos / f"copy{copy:02}.png")
    (photos / "text.jpg").write_text("hello\n" * 9)
    (photos / "empty.jpg").write_bytes(b"")
    pipe, table = Pipe(tmp_path / "pipe.png"), tmp_path / "t.parquet"
    arguments = [photos, pipe.path, "--model", model, "--out", table]
    with start([*arguments, "--engine", "ray", "--actors", 2], NAMESPACE, RAY_worker_niceness="0") as process:
        end = pipe.wait_for_reader(PATIENCE)
        killed = reader(pipe)
        os.kill(killed, signal.SIGKILL)
        reader(pipe, killed)
        os.write(end, write_png(tmp_path / "picture.png", 99).read_bytes())
        os.close(end)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "143 pictures, 2 of them with an error; 143 were new" in out) == (1, True), err
    assert sorted(line.split(": ")[0] for line in err.splitlines()) == [f"{photos}/empty.jpg", f"{photos}/text.jpg"]
    assert paths(table) == sorted([*map(str, photos.iterdir()), str(pipe.path)])
    found = {row["path"]: row for row in rows(table)}
    assert len({row["caption"] for path, row in found.items() if "copy" in path or path.endswith("/00.png")}) == 1

    with start([photos, "--model", model, "--out", tmp_path / "local.parquet"]) as process:
        process.communicate(timeout=PATIENCE)
    for row in rows(tmp_path / "local.parquet"):
        other = found[row["path"]]
        assert [row[name] for name in ("sha256", "caption", "error")] == [
            other[name] for name in ("sha256", "caption", "error")
        ]
    # Ray continues what this process began, and the other way round.
    with start([*arguments[:1], *arguments[2:]]) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert "142 pictures, 2 of them with an error; 0 were new" in out


def test_a_block_that_kills_its_actors_is_given_up_and_tried_again_by_another_run(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    """Like a picture that crashes whoever opens it."""
    pipe, table = Pipe(tmp_path / "pipe.png"), tmp_path / "t.parquet"
    arguments = [photos, pipe.path, "--model", model, "--out", table]
    with start([*arguments, "--engine", "ray", "--actors", 1], NAMESPACE, RAY_worker_niceness="0") as process:
        end = pipe.wait_for_reader(PATIENCE)
        killed: list[int] = []
        for _ in range(3):
            killed.append(reader(pipe, *killed))
            os.kill(killed[-1], signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE)
        os.close(end)
    given_up = [row for row in rows(table) if row["error"]]
    assert (process.returncode, [row["path"] for row in given_up]) == (1, paths(table)[32:]), out + err
    assert all("3 processes died" in row["error"] and row["sha256"] is None for row in given_up)
    pipe.path.unlink()
    write_png(pipe.path, 99)
    with start(arguments) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "41 pictures, 0 of them with an error; 9 were new" in out) == (0, True), out + err
