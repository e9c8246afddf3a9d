"""What the command line prints can be read by programs: in every encoding, on every terminal, from every stream."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import cv2
import pytest

from captionist.commands.terminal import SPELT_OUT
from captionist.images import decode
from captionist.several import holds_several
from tests.conftest import Run
from tests.pictures import patchwork, write_png

COMMAND = [sys.executable, "-m", "captionist.cli"]
ENCODINGS = "ascii latin-1 cp1252 cp437 koi8-r shift_jis euc_jp big5 gb18030 iso2022_jp utf-7 utf-8-sig utf-16 utf-32"


@pytest.mark.parametrize("encoding", [*ENCODINGS.split(), "cp037"])
def test_every_encoding_can_write_every_name(encoding: str) -> None:
    """What the encoding lacks is written out, and bytes that are not UTF-8 come out as they went in."""
    name = "a képű 🐕 \udce9.jpg"
    written = name.encode(encoding, SPELT_OUT)
    assert written.decode(encoding, "replace").startswith("a k")
    if encoding == "latin-1":
        assert written == b"a k\xe9p\\u0171 \\U0001f415 \xe9.jpg"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16", "shift_jis"])
def test_output_in_another_encoding_stops_nothing(encoding: str, model: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "képű 🐕.png"]):
        write_png(tmp_path / "photos" / name, seed)
    os.link(tmp_path / "photos" / "a.png", os.fsencode(tmp_path / "photos") + b"/caf\xe9.png")
    (tmp_path / "photos" / "új.png").write_bytes(b"")

    def outcome(*arguments: object) -> tuple[int, str]:
        command = [*COMMAND, *map(str, arguments)]
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
        assert b"Traceback" not in done.stderr
        assert b"\nUnicode" not in done.stderr
        return done.returncode, done.stdout.decode(encoding, "replace")

    code, out = outcome("caption", "photos", "--model", model)
    assert (code, out.count("\n"), out.count("\t")) == (1, 3, 3)
    assert outcome("index", "photos", "--model", model, "--out", "képű.npz")[0] == 1
    code, out = outcome("search", "a dog", "--index", "képű.npz", "--model", model)
    assert (code, out.count("\n")) == (0, 3)
    assert outcome("caption", "photos", "--model", model, "--out", "képű 🐕.parquet")[0] == 1
    assert outcome("--help")[0] == 0
    assert outcome("caption", "--help")[0] == 0


def test_sentences_and_names_are_understood_in_a_locale_of_ascii_alone(model: Path, tmp_path: Path) -> None:
    picture = write_png(tmp_path / "képű.png", 1)
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command: list[str | Path] = [*COMMAND, "match", picture, "a dog in a café", "--model", model]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith("\ta dog in a café\n".encode())


def test_tables_for_people_are_printed_in_another_encoding(model: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "képű 🐕" / "Images" / "1.jpg", 1)
    (tmp_path / "képű 🐕" / "captions.txt").write_text("image,caption\n1.jpg,a dog\nű.jpg,a cat\n", encoding="utf-8")
    command: list[str | Path] = [*COMMAND, "data", "inspect", tmp_path / "képű 🐕", "--model", model]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u0171.jpg" in done.stdout


def on_a_terminal(*command: str | Path, columns: int = 80) -> tuple[int, bytes]:
    """The exit code, and all that the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"})
    os.close(theirs)
    screen = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end was closed
        while part := os.read(ours, 65536):
            screen += part
    os.close(ours)
    return process.wait(), screen


def lines_of(screen: bytes) -> list[bytes]:
    """What was written in whole lines, without the bar, which is never one."""
    return [re.split(rb"\x1b\[K", line)[-1] for line in screen.split(b"\r\n")[:-1]]


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
    bars = re.findall(rb"\r([^\r\n]*?)\x1b\[K", screen)
    assert b"captioning [" in bars[0]
    assert max(map(len, bars)) < 20


def test_tables_are_not_broken_where_no_terminal_is(run: Run, model: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "corpus" / "Images" / "1.jpg", 1)
    name = "missing " * 40 + ".jpg"
    (tmp_path / "corpus" / "captions.txt").write_text(f"image,caption\n1.jpg,a dog\n{name},a cat\n", encoding="utf-8")
    done = run("data", "inspect", tmp_path / "corpus", "--model", model)
    assert f"  {name}: captions lost: 1" in done.out
    assert f"in {tmp_path / 'corpus'}\n" in done.out


# --- Standard input ---------------------------------------------------------------------------------------------------


def encoded(suffix: str, seed: int = 1) -> bytes:
    return cv2.imencode(suffix, patchwork(seed))[1].tobytes()


def with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with one more segment behind its first marker."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def of_two_views() -> bytes:
    """A file as stereo cameras and phones with gain maps write it: the first JPEG says where the second one is."""
    first, second = encoded(".jpg", 1), encoded(".jpg", 2)
    header = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 2)
    header += struct.pack(">HHII", 0xB001, 4, 1, 2) + struct.pack(">HHII", 0xB002, 7, 32, 38) + bytes(4)
    size = len(first) + 8 + len(header) + 32  # marker, length, "MPF\0" and two entries
    base = 2 + 4 + 4  # where the index begins, from which places are counted
    entries = struct.pack(">IIIHH", 0x030000, size, 0, 0, 0) + struct.pack(">IIIHH", 0, len(second), size - base, 0, 0)
    whole = with_segment(first, 0xE2, b"MPF\0" + header + entries)
    assert len(whole) == size
    return whole + second


def motion_photo() -> bytes:
    video = b"\0\0\0\x18ftypmp42" + encoded(".png")
    xmp = f'http://ns.adobe.com/xap/1.0/\0<x Item:Length="0" Item:Length="{len(video)}"/>'.encode()
    return with_segment(encoded(".jpg"), 0xE1, xmp) + video


SUFFIXES = [".jpg", ".png", ".webp", ".bmp"]
ONE = [*map(encoded, [*SUFFIXES, ".tif"]), of_two_views(), motion_photo(), encoded(".jpg") + b"rubbish"]


@pytest.mark.parametrize("one", range(len(ONE)))
def test_what_cameras_append_is_not_another_picture(one: int) -> None:
    assert decode(ONE[one]).shape[2] == 3
    assert not holds_several(ONE[one])


@pytest.mark.parametrize("first", [0, 1, 2, 3, 5, 6])
@pytest.mark.parametrize("second", range(len(ONE)))
def test_two_files_in_one_stream_are_several(first: int, second: int) -> None:
    assert holds_several(ONE[first] + ONE[second])


def test_a_picture_that_is_not_read_is_one_too() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert holds_several(encoded(".jpg") + heic)
    assert not holds_several(heic + encoded(".jpg"))  # which is an error of its own
    assert not holds_several(b"")


@pytest.mark.parametrize("cut", range(2, 60))
def test_a_damaged_index_is_no_obstacle(cut: int) -> None:
    whole = of_two_views()
    damaged = with_segment(encoded(".jpg"), 0xE2, whole[6 : 6 + cut])
    assert not holds_several(damaged)


def test_several_pictures_on_standard_input_are_an_error_and_the_named_ones_are_captioned(
    model: Path, tmp_path: Path
) -> None:
    picture = write_png(tmp_path / "a.png", 1)
    data = picture.read_bytes() * 2
    done = subprocess.run([*COMMAND, "caption", "-", picture, "--model", model], input=data, capture_output=True)
    assert (done.returncode, done.stdout.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"-: standard input holds more than one picture: name the files")
    done = subprocess.run([*COMMAND, "match", "-", "a dog", "--model", model], input=data, capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"captionist: standard input holds more than one picture")
