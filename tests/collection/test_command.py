"""captionist caption --out, run as its users run it, on one machine."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from captionist.cli import main
from captionist.collection.table import SCHEMA
from tests.collection.tables import Pipe, is_pending, paths, rows, start
from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle
from tests.tools import small_disk, wait_until


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["caption", *map(str, arguments)])
    return int(left.value.code or 0), *capsys.readouterr()


def test_the_table_says_what_the_command_prints(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, printed, _ = run(capsys, photos, "--model", model, "--json")
    code, out, err = run(capsys, photos, "--model", model, "--out", tmp_path / "t.parquet")
    assert (code, err) == (0, "")
    assert out == f"{tmp_path / 't.parquet'}: 40 pictures, 0 of them with an error; 40 were new\n"
    table = rows(tmp_path / "t.parquet")
    assert list(table[0]) == SCHEMA.names
    for row, line in zip(table, printed.splitlines(), strict=True):
        said = json.loads(line)
        assert [row["path"], row["caption"], row["error"]] == [said["path"], said["text"], None]
        assert row["log_probability"] == pytest.approx(said["log_probability"], abs=1e-4)
        assert row["confidence"] == pytest.approx(said["confidence"], abs=1e-4)


def test_bad_pictures_have_an_error_and_only_the_unreadable_are_tried_again(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_text("hello\n" * 9)
    (photos / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    with (photos / "large.jpg").open("wb") as file:
        file.truncate(20_000_001)
    arguments = photos, "--model", model, "--out", tmp_path / "t.parquet"
    code, out, err = run(capsys, *arguments)
    assert (code, "44 pictures, 4 of them with an error; 44 were new" in out) == (1, True)
    bad = {Path(row["path"]).name: row for row in rows(tmp_path / "t.parquet") if row["error"]}
    assert sorted(bad) == ["empty.jpg", "gone.jpg", "large.jpg", "text.jpg"]
    assert sorted(err.splitlines()) == sorted(f"{row['path']}: {row['error']}" for row in bad.values())
    assert {name: row["sha256"] is None for name, row in bad.items()} == {
        "empty.jpg": False, "gone.jpg": True, "large.jpg": True, "text.jpg": False,
    }  # fmt: skip
    write_png(tmp_path / "gone.jpg", 99)
    code, out, err = run(capsys, *arguments)
    assert (code, "44 pictures, 3 of them with an error; 2 were new" in out) == (1, True)
    assert err == f"{photos}/large.jpg: {bad['large.jpg']['error']}\n"
    assert len(set(paths(tmp_path / "t.parquet"))) == len(paths(tmp_path / "t.parquet")) == 44


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_done_is_kept_and_the_rest_is_done_by_another_run(
    number: int, model: Path, photos: Path, tmp_path: Path
) -> None:
    pipe, table = Pipe(photos.parent / "pipe.png"), tmp_path / "t.parquet"
    arguments = photos, pipe.path, "--model", model, "--out", table
    with start(arguments) as process:
        end = pipe.wait_for_reader(60)
        process.send_signal(number)
        wait_until(lambda: not is_pending(process, number))
        os.close(end)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert "Traceback" not in err
    kept = {file: file.read_bytes() for file in table.glob("part-*")}
    before = paths(table)
    assert 8 <= len(before) < 41
    pipe.path.unlink()
    write_png(pipe.path, 99)
    with start(arguments) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert f"41 pictures, 0 of them with an error; {41 - len(before)} were new" in out
    assert paths(table) == sorted([*map(str, photos.iterdir()), str(pipe.path)])
    assert {file: file.read_bytes() for file in kept} == kept


def test_a_full_disk_is_one_line_and_leaves_a_table_that_can_be_read(model: Path, photos: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 16):
        with start([photos, "--model", model, "--out", tmp_path / "small" / "t"]) as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (1, "")
        assert re.fullmatch(r"captionist: .*/small/t cannot be used \(.*\n", err)
        assert 8 <= len(set(paths(tmp_path / "small" / "t"))) < 40


def test_odd_names(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(["új kép 🐕.png", "new\nline\t.png", "100%25 #?.png"]):
        write_png(tmp_path / "in" / name, seed)
    (tmp_path / "in" / "bad\n.png").write_bytes(b"")
    os.link(write_png(tmp_path / "x.png", 7), os.fsencode(tmp_path / "in") + b"/caf\xe9.png")
    code, _, err = run(capsys, tmp_path / "in", "--model", model, "--out", tmp_path / "t.parquet")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"{tmp_path}/in/bad\\n.png: ")
    names = ["100%25 #?.png", "bad\n.png", "caf\\xe9.png", "new\nline\t.png", "új kép 🐕.png"]
    assert paths(tmp_path / "t.parquet") == [f"{tmp_path}/in/{name}" for name in names]
    code, out, _ = run(capsys, tmp_path / "in", "--model", model, "--out", tmp_path / "t.parquet")
    assert (code, "0 were new" in out) == (1, True)


def test_names_that_look_alike_written_out_have_a_row_each(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bytes caf\\xe9, the same with the backslash spelt out, and that with two of them; and a harmless one."""
    folder = os.fsencode(tmp_path) + b"/in/"
    names = [b"caf\xe9.png", rb"caf\xe9.png", rb"caf\\xe9.png", rb"a\b.png"]
    for seed, name in enumerate(names):
        write_png(tmp_path / "in" / os.fsdecode(name), seed)
    code, out, err = run(capsys, tmp_path / "in", "--model", model, "--out", tmp_path / "t.parquet")
    assert (code, err, "4 were new" in out) == (0, "", True)
    found = {row["path"]: row["sha256"] for row in rows(tmp_path / "t.parquet")}
    written = [r"caf\xe9.png", r"caf\\xe9.png", r"caf\\\\xe9.png", r"a\b.png"]
    assert found == {
        f"{tmp_path}/in/{shown}": hashlib.sha256(Path(os.fsdecode(folder + name)).read_bytes()).hexdigest()
        for shown, name in zip(written, names, strict=True)
    }
    code, out, _ = run(capsys, tmp_path / "in", "--model", model, "--out", tmp_path / "t.parquet")
    assert (code, "0 were new" in out) == (0, True)


def test_a_table_that_cannot_be_used_is_left_alone(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def attempt(out: object, *more: object) -> tuple[int, str]:
        code, said, err = run(capsys, photos, "--model", model, "--out", out, *more)
        assert (said, "Traceback" in err) == ("", False)
        return code, " ".join(err.replace("│", " ").split())

    file, folder, made = tmp_path / "file", tmp_path / "folder", tmp_path / "made"
    file.write_text("mine")
    folder.mkdir()
    (folder / "part-0.parquet").write_text("mine")
    code, err = attempt(file)
    assert (code, "is a file" in err, file.read_text()) == (2, True, "mine")
    code, err = attempt(folder)
    assert (code, "holds something other" in err) == (2, True)
    assert [one.name for one in folder.iterdir()] == ["part-0.parquet"]
    for nowhere in (tmp_path / "none" / "t", "/sys/captions"):  # where not even root may write
        code, err = attempt(nowhere)
        assert (code, err.startswith(f"captionist: {nowhere} cannot be used (")) == (1, True)
    assert run(capsys, photos, "--model", model, "--out", made)[0] == 0
    code, err = attempt(made, "--num-beams", 1)
    assert (code, "made with another model or other options" in err) == (2, True)
    other = write_tiny_bundle(tmp_path / "other", seed=1)  # of the same name and version
    code, err = attempt(made, "--model", other)
    assert (code, "made with another model or other options" in err) == (2, True)
    with FileLock(made / "_captionist.lock"):
        code, err = attempt(made)
    assert (code, "another run is writing to it" in err) == (1, True)
    (part,) = made.glob("part-*")
    part.write_bytes(part.read_bytes()[:-30])
    code, err = attempt(made)
    assert (code, f"{part.name} is damaged" in err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.png", "--engine", "ray"],
        ["a.png", "--actors", "2"],
        ["a.png", "--out", "t", "--engine", "spark"],
        ["a.png", "--out", "t", "--actors", "2"],
        ["a.png", "--out", "t", "--json"],
        ["a.png", "--out", "t", "--explain", "maps"],
        ["a.png", "--out", "t", "--num-captions", "2"],
        ["a.png", "--out", "t", "--min-confidence", "0.5"],
        ["a.png", "-", "--out", "t"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *arguments)[0] == 2


@pytest.mark.parametrize(("package", "extra"), [("pyarrow", "parquet"), ("ray", "ray")])
def test_a_missing_extra_is_named(package: str, extra: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from captionist.cli import main; main(sys.argv[1:])"
    arguments = ["caption", "a.png", "--out", str(tmp_path / "t"), "--engine", "ray"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f'pip install "captionist[{extra}]"' in done.stderr


def test_urls_are_listed_like_folders(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(photos / "sub" / ".hidden.png", 1)
    url, one, table = f"file://{photos}/", f"file://{photos}/00.png", tmp_path / "t.parquet"
    (tmp_path / "nothing").mkdir()
    wrong = [f"file://{tmp_path}/none", f"file://{tmp_path}/nothing", "gopher://a/b"]
    code, out, err = run(capsys, *wrong, one, url, "--model", model, "--out", table)
    assert (code, "40 pictures, 0 of them" in out) == (1, True)
    assert [line.split(": ")[0] for line in err.splitlines()] == wrong
    assert paths(table) == [f"file://{photos}/{number:02}.png" for number in range(40)]


def test_nothing_to_caption_makes_no_table(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    code, out, err = run(capsys, tmp_path / "in", "--model", model, "--out", tmp_path / "t.parquet")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert not (tmp_path / "t.parquet").exists()
