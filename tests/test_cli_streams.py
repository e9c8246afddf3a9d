"""The command line as a process among others: its streams, terminals, signals, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import Run
from tests.pictures import write_png
from tests.tools import COMMAND, command, on_a_terminal


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, captionist.cli\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'tokenizers', 'torch', 'transformers'}\n"
        "sys.stderr.write(' '.join(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("torch", ["train", "recipe.yaml"]),
        ("torch", ["export", "run", "bundle"]),
        ("nltk", ["score", "--references=a", "--candidates=b"]),
        ("torch", ["evaluate", "--data=.", "--split=dev", "--clip=any"]),
    ],
)
def test_a_missing_extra_is_named(missing: str, arguments: list[str]) -> None:
    """None in sys.modules is Python's own way to make an import fail."""
    code = f"import sys\nsys.modules[{missing!r}] = None\nfrom captionist.cli import main\nmain(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert 'pip install "captionist[train]"' in done.stderr


def test_captioning_keeps_nothing_about_its_user(model: Path, photos: Path, tmp_path: Path) -> None:
    """ONNX Runtime would leave an identifier of this machine in the home folder, and tell its maker of it."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    environment = {"HOME": str(home), "TMPDIR": str(temporary)}  # without CI, in which ONNX Runtime is silent by itself
    assert command("caption", photos / "a.png", "--model", model, env=environment).returncode == 0
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_captioning_needs_no_torch(model: Path, photos: Path) -> None:
    code = (
        "import sys\n"
        "from captionist import Captioner\n"
        "Captioner(sys.argv[1]).caption(sys.argv[2])\n"
        "sys.stderr.write(' '.join({'torch', 'transformers', 'nltk'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, model, photos / "a.png"], capture_output=True, text=True)
    assert done.stderr == ""


def test_standard_input_and_names_that_are_not_utf8(model: Path, photos: Path) -> None:
    odd = os.fsencode(photos) + b"/caf\xe9.png"
    os.link(photos / "b.png", odd)
    picture = (photos / "a.png").read_bytes()
    arguments = ("caption", "-", odd, "--model", model)
    done = command(*arguments, input=picture)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert [line.split(b"\t")[0] for line in done.stdout.splitlines()] == [b"-", odd]
    as_json = command(*arguments, "--json", input=picture)
    assert [os.fsencode(json.loads(line)["path"]) for line in as_json.stdout.splitlines()] == [b"-", odd]


def test_a_closed_pipe_is_quiet(model: Path, photos: Path) -> None:
    for seed in range(40):
        write_png(photos / f"more{seed}.png", seed)
    with subprocess.Popen(
        [*COMMAND, "caption", photos, "--model", model], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_ctrl_c_stops_cleanly(model: Path, photos: Path) -> None:
    for seed in range(3000):
        (photos / f"link{seed}.png").symlink_to(photos / "a.png")
    with subprocess.Popen(
        [*COMMAND, "caption", photos, "--model", model, "--json"],
        bufsize=0,  # else readline takes more than a line, which communicate would never see
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    lines = (first + out).splitlines()
    assert 1 <= len(lines) < 3000
    assert all("text" in json.loads(line) for line in lines)


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
@pytest.mark.parametrize("name", ["caption", "inspect"])
def test_output_that_cannot_be_written_is_one_line(
    model: Path, photos: Path, corpus: Path, name: str, redirect: str
) -> None:
    arguments: list[str | Path] = ["caption", photos] if name == "caption" else ["data", "inspect", corpus]
    done = command(*arguments, "--model", model, script=f'"$@" {redirect}', text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"captionist: .*output.*\n", done.stderr)


def test_a_closed_standard_input_is_one_line(model: Path, photos: Path) -> None:
    done = command("caption", "-", photos / "a.png", "--model", model, script='"$@" <&-', text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert re.fullmatch(r"-: .*closed.*\n1 captioned, 1 failed in .*\n", done.stderr)


def test_libraries_in_c_write_no_lines_of_their_own(model: Path, photos: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = bytearray(cv2.imencode(".jpg", noise)[1].tobytes())
    jpeg[-60:-40] = b"\xff\xd0" * 10  # restart markers where none belong
    (photos / "c.jpg").write_bytes(jpeg)
    done = command("caption", photos / "c.jpg", photos / "gone.png", "--model", model, text=True)
    lines = done.stderr.splitlines()[:-1]
    assert lines
    assert all(line.startswith(f"{photos}/") for line in lines)


def lines_of(screen: bytes) -> list[bytes]:
    """What was written in whole lines, without the bar, which is never one."""
    return [line.rpartition(b"\r")[2] for line in screen.split(b"\r\n")[:-1]]


@pytest.mark.parametrize("columns", [80, 20])
def test_a_terminal_breaks_no_line(columns: int, model: Path, tmp_path: Path) -> None:
    long = tmp_path / ("a folder of a long name " * 5) / ("x" * 100)
    names = [str(write_png(long / f"{seed}.png", seed)) for seed in range(3)]
    bad = long / "bad.png"
    bad.write_text("text")
    arguments: list[str | Path] = [*COMMAND, "caption", tmp_path, "--model", model]
    code, screen = on_a_terminal(*arguments, columns=columns)
    assert code == 1
    assert b"captioning" in screen
    found = [line.decode() for line in lines_of(screen)]
    assert [line.split("\t")[0] for line in found if "\t" in line] == names
    assert sum(line.startswith(f"{bad}: this is not a picture but text") for line in found) == 1
    assert found[-1].startswith("3 captioned, 1 failed in ")
    assert len(found) == 5
    code, screen = on_a_terminal(*arguments, "--json", columns=columns)
    assert [json.loads(line)["path"] for line in lines_of(screen)[:-1]] == [*names, str(bad)]
    code, screen = on_a_terminal(*COMMAND, "index", tmp_path, "--model", model, "--out", long / "i", columns=columns)
    assert [line.decode() for line in lines_of(screen)] == [
        f"{bad}: {found[-2].partition(': ')[2]}",
        f"{long / 'i'}: 3 pictures, 3 of them read now",
    ]
    code, screen = on_a_terminal(*COMMAND, "search", "a dog", "--index", long / "i", "--model", model, columns=columns)
    assert sorted(line.decode().split("\t")[1] for line in lines_of(screen)) == names


def test_a_bar_is_never_wider_than_its_terminal(model: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", 1)
    _, screen = on_a_terminal(*COMMAND, "caption", tmp_path, "--model", model, columns=20)
    written = screen.partition(b"\n")[0].split(b"\r")
    assert any(part.startswith(b"captioning:") for part in written)
    assert max(map(len, written[:-2])) <= 20


def test_tables_are_not_broken_where_no_terminal_is(run: Run, model: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "corpus" / "Images" / "1.jpg", 1)
    name = "missing " * 40 + ".jpg"
    (tmp_path / "corpus" / "captions.txt").write_text(f"image,caption\n1.jpg,a dog\n{name},a cat\n", encoding="utf-8")
    done = run("data", "inspect", tmp_path / "corpus", "--model", model)
    assert f"  {name}: captions lost: 1" in done.out
    assert f"in {tmp_path / 'corpus'}\n" in done.out
