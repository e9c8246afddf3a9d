"""The command line with paths that lead nowhere, and with what it wrote itself: neither stops the rest."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle
from tests.tools import COMMAND, command, unprivileged

LONG = "x" * 300  # more than file systems take


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(["a.png", "b.png"]):
        write_png(tmp_path / "photos" / name, seed)
    monkeypatch.chdir(tmp_path)
    return Path("photos")


@pytest.fixture
def shut(photos: Path) -> Iterator[Path]:
    """A folder that may not be entered; beside it links into it, and a folder that may only be listed."""
    shut, listed = photos / "shut", photos / "listed"
    for folder in (shut, listed):
        write_png(folder / "c.png", 3)
    (photos / "link.png").symlink_to("shut/c.png")
    (photos / "linked").symlink_to("shut/deeper")
    shut.chmod(0)
    listed.chmod(0o444)
    yield shut
    shut.chmod(0o755)
    listed.chmod(0o755)


def outcome(*arguments: str | Path) -> tuple[int, list[str], list[str]]:
    done = subprocess.run([*unprivileged(), *COMMAND, *arguments], capture_output=True, text=True)
    err = [line for line in done.stderr.splitlines() if " captioned" not in line]  # without the summary
    return done.returncode, done.stdout.splitlines(), err


@pytest.mark.parametrize("name", ["caption", "index", "table"])
@pytest.mark.usefixtures("shut")
def test_what_may_not_be_entered_is_a_line_each(name: str, model: Path) -> None:
    arguments = ["caption", "photos", "--out", "t"] if name == "table" else [name, "photos"]
    code, out, err = outcome(*arguments, "--model", model)
    assert code == 1
    names = ["photos/shut", "photos/link.png", "photos/linked", "photos/listed/c.png"]
    assert sorted(line.split(": ")[0] for line in err) == sorted(names)
    assert all("Permission denied" in line for line in err)
    assert len(out) == (2 if name == "caption" else 1)
    if name == "table":
        assert out == ["t: 5 pictures, 3 of them with an error; 5 were new"]


def test_what_is_named_in_a_folder_that_may_not_be_entered_stops_nothing(shut: Path, model: Path) -> None:
    code, out, err = outcome("caption", shut / "c.png", shut / "*.png", "photos/a.png", "--model", model)
    assert (code, [line.split("\t")[0] for line in out]) == (1, ["photos/a.png"])
    assert sorted(line.split(": ")[0] for line in err) == ["photos/shut/*.png", "photos/shut/c.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["caption", "photos/a.png", "--model", "photos/shut/tiny"],
        ["index", "photos/a.png", "--out", "photos/shut/index.npz"],
        ["caption", "photos/a.png", "--out", "photos/shut/table"],
        ["caption", "photos/a.png", "--explain", "photos/shut/sheets"],
        ["data", "inspect", "photos/shut/corpus"],
        ["data", "download", "flickr8k", "photos/shut/corpus", "--accept-licence"],
        ["score", "--references", "r.json", "--candidates", "c.json", "--json", "photos/shut/scores.json"],
    ],
)
@pytest.mark.usefixtures("shut")
def test_what_may_not_be_entered_is_named(arguments: list[str]) -> None:
    code, _, err = outcome(*arguments)
    assert code in (1, 2)
    assert "Permission denied" in " ".join(err)
    assert "Traceback" not in " ".join(err)


def test_a_bundle_that_may_only_be_listed_says_so(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    bundle.chmod(0o444)
    try:
        code, _, err = outcome("model", "verify", bundle)
    finally:
        bundle.chmod(0o755)
    assert (code, len(err)) == (1, 1)
    assert "config.json cannot be opened (Permission denied)" in err[0]


def test_a_long_name_is_a_line(run: Run, model: Path, photos: Path) -> None:
    done = run("caption", LONG, photos / LONG, f"{LONG}/*.png", photos, "--model", model)
    assert (done.code, len(done.out.splitlines()), len(done.err.splitlines())) == (1, 2, 4)
    assert run("index", LONG, photos, "--model", model).out.startswith("captionist-index.npz: 2 pictures")


@pytest.mark.parametrize(
    "arguments",
    [
        ["caption", "photos", "--model", LONG],
        ["caption", "photos", "--out", LONG],
        ["caption", "photos", "--explain", LONG],
        ["index", "photos", "--out", LONG],
        ["search", "a dog", "--index", LONG],
        ["match", LONG, "a dog"],
        ["data", "inspect", LONG],
        ["data", "download", "flickr8k", LONG, "--accept-licence"],
        ["train", LONG],
        ["train", "recipe.yaml", "--resume", LONG],
        ["export", LONG, "bundle"],
        ["score", "--references", LONG, "--candidates", "c.json"],
        ["score", "--references", "r.json", "--candidates", "c.json", "--json", LONG],
        ["evaluate", "--data", "photos", "--split", "dev", "--report", LONG],
    ],
)
@pytest.mark.usefixtures("photos")
def test_a_long_name_of_anything_else_is_an_error_before_the_work(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code in (1, 2)
    assert done.out == ""


def test_a_long_name_of_an_index_that_can_be_is_one(run: Run, model: Path, photos: Path) -> None:
    assert run("index", photos, "--model", model, "--out", "x" * 255).code == 0


def test_an_unknown_user_s_folder_is_no_bundle(run: Run, photos: Path) -> None:
    done = run("caption", photos, "--model", "~nobody-of-this-name/bundle")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_a_current_folder_that_was_deleted_stops_nothing(model: Path, photos: Path) -> None:
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    picture = os.path.abspath(photos / "a.png")  # noqa: PTH100
    done = command("caption", picture, "b.png", "--model", model, script=script, text=True)
    assert (done.returncode, done.stdout.split("\t")[0]) == (1, picture)
    assert done.stderr.startswith("b.png: ")


@pytest.mark.parametrize("again", ["photos", "photos/*"])
def test_what_was_written_among_the_pictures_is_passed_over(run: Run, model: Path, photos: Path, again: str) -> None:
    for where in (photos, photos / "sheets"):
        assert run("caption", photos, "--model", model, "--explain", where).code == 0
    assert run("index", photos, "--model", model, "--out", photos / "index").out.startswith("photos/index: 2 pictures")
    for state in ("2 were new", "0 were new"):
        table = run("caption", photos, "--model", model, "--out", photos / "table")
        assert (table.code, table.err) == (0, "")
        assert table.out == f"photos/table: 2 pictures, 0 of them with an error; {state}\n"
    done = run("caption", again, "--model", model, "--explain", photos / "sheets")
    assert done.code == 0
    assert re.fullmatch(r"2 captioned in .*/s\n", done.err)
    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["photos/a.png", "photos/b.png"]
    assert sorted(path.name for path in (photos / "sheets").iterdir()) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("redirect", [">photos/out", ">>photos/out", "2>photos/errors"])
def test_where_the_output_goes_is_passed_over(model: Path, photos: Path, redirect: str) -> None:
    for _ in range(2):
        assert command("caption", photos, "--model", model, script=f'"$@" {redirect}').returncode == 0


def test_nothing_but_what_was_written_is_an_error(run: Run, model: Path, photos: Path) -> None:
    assert run("caption", photos, "--model", model, "--explain", "sheets").code == 0
    assert run("caption", photos, "--model", model, "--out", "table").code == 0
    for arguments in (["sheets"], ["table"], ["sheets", "--out", "other"]):
        done = run("caption", *arguments, "--model", model)
        assert (done.code, done.out) == (1, "")
        assert "name pictures" in done.err
