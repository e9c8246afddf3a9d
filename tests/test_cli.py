"""The command line, run as its users run it."""

import re
from pathlib import Path

import pytest

from captionist.images import decode
from tests.conftest import Run
from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle


def test_a_line_for_each_picture(run: Run, model: Path, photos: Path) -> None:
    outcome = run("caption", photos, "--model", model)
    assert outcome.code == 0
    assert re.fullmatch(r"3 captioned in \d+\.\d s, \d+\.\d/s; 1 other file skipped\n", outcome.err)
    fields = [line.split("\t") for line in outcome.out.splitlines()]
    assert [path for path, _ in fields] == [f"{photos}/{name}" for name in ("a.png", "b.png", "sub/a.png")]
    assert all(text[0].isupper() and text.endswith(".") for _, text in fields)
    assert len({text for _, text in fields}) == 3


def test_one_json_object_a_line(run: Run, model: Path, photos: Path) -> None:
    outcome = run("caption", photos / "a.png", photos / "none.png", "--model", model, "--json", "--num-captions", 3)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert outcome.err.startswith("1 captioned, 1 failed in ")
    good, bad = outcome.records
    assert list(good) == ["path", "text", "log_probability", "confidence", "alternatives"]
    assert isinstance(good["alternatives"], list)
    assert len(good["alternatives"]) == 2
    assert list(good["alternatives"][0]) == ["text", "log_probability", "confidence"]
    assert list(bad) == ["path", "error"]
    assert bad["path"] == f"{photos}/none.png"


def test_more_captions_are_more_lines_of_the_same_path(run: Run, model: Path, photos: Path) -> None:
    options = ["--model", model, "--num-captions", 3, "--max-words", 4]
    lines = [line.split("\t") for line in run("caption", photos / "a.png", *options).out.splitlines()]
    assert [path for path, _ in lines] == [f"{photos}/a.png"] * 3
    assert len({text for _, text in lines}) == 3
    assert max(len(text.split()) for _, text in lines) <= 4


def test_captions_below_the_least_confidence_are_left_out(run: Run, model: Path, photos: Path) -> None:
    path = photos / "a.png"
    (record,) = run("caption", path, "--model", model, "--json").records
    least = record["confidence"]
    assert isinstance(least, float)
    assert run("caption", path, "--model", model, "--min-confidence", least).out == f"{path}\t{record['text']}\n"
    refused = run("caption", path, "--model", model, "--min-confidence", least + 1e-6)
    assert (refused.code, refused.out, refused.err) == (0, f"{path}\t\n", "")
    (record,) = run("caption", path, "--model", model, "--min-confidence", least + 1e-6, "--json").records
    assert record == {
        "path": str(path),
        "text": None,
        "log_probability": None,
        "confidence": None,
        "alternatives": [],
    }


def test_bad_files_give_a_line_each_and_the_good_ones_are_captioned(run: Run, model: Path, photos: Path) -> None:
    cut = (photos / "a.png").read_bytes()[:-30]
    for name, content in (("c-cut.png", cut), ("d-empty.jpg", b""), ("e-text.jpg", b"hello\n" * 9)):
        (photos / name).write_bytes(content)
    outcome = run("caption", photos, photos / "gone.png", "--model", model)
    assert outcome.code == 1
    assert len(outcome.out.splitlines()) == 3
    names = [line.split(": ")[0] for line in outcome.err.splitlines()]
    assert names[:-1] == [f"{photos}/{name}" for name in ("c-cut.png", "d-empty.jpg", "e-text.jpg", "gone.png")]
    assert names[-1].startswith("3 captioned, 4 failed in ")


@pytest.mark.parametrize("command", ["caption", "index"])
def test_limits_can_be_changed_as_the_message_says(
    run: Run, model: Path, photos: Path, tmp_path: Path, command: str
) -> None:
    size = (photos / "a.png").stat().st_size
    arguments = [
        command,
        photos / "a.png",
        "--model",
        model,
        *(["--out", tmp_path / "i"] if command == "index" else []),
    ]
    refused = run(*arguments, "--max-pixels", "1000")
    assert refused.code == 1
    assert "raise the limit (--max-pixels" in refused.err
    (photos / "a.png").write_bytes((photos / "a.png").read_bytes() + bytes(20_000_000))
    refused = run(*arguments)
    assert refused.code == 1
    assert "raise the limit (--max-bytes" in refused.err
    assert run(*arguments, "--max-bytes", str(size + 20_000_000), "--max-pixels", "1000000").code == 0


def test_an_empty_folder_and_an_unmatched_glob_are_errors(run: Run, model: Path, tmp_path: Path) -> None:
    outcome = run("caption", tmp_path, tmp_path / "*.jpg", "--model", model)
    assert (outcome.code, outcome.out) == (1, "")
    assert [line.split(": ")[0] for line in outcome.err.splitlines()[:-1]] == [str(tmp_path), f"{tmp_path}/*.jpg"]


def test_explain_writes_a_sheet_for_each_picture(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    assert run("caption", photos, "--model", model, "--explain", tmp_path / "sheets").code == 0
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [sheet.name for sheet in sheets] == ["a-2.jpg", "a.jpg", "b.jpg"]
    assert all(decode(sheet).shape[1] > 200 for sheet in sheets)


def test_a_sheet_that_cannot_be_written_does_not_stop_the_others(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    too_long = write_png(photos / ("x" * 255), 1)  # its name with .jpg is more than file systems take
    outcome = run("caption", too_long, photos / "a.png", "--model", model, "--explain", tmp_path / "sheets")
    assert (outcome.code, len(outcome.out.splitlines()), len(outcome.err.splitlines())) == (1, 2, 2)
    assert [sheet.name for sheet in (tmp_path / "sheets").iterdir()] == ["a.jpg"]


def test_errors_are_one_line_and_no_traceback(run: Run, photos: Path, tmp_path: Path) -> None:
    for arguments in (
        ["caption", photos, "--model", "nonesuch"],
        ["model", "verify", tmp_path],
        ["data", "inspect", tmp_path / "none"],
        ["score", "--references", tmp_path / "none.json", "--candidates", tmp_path / "none.json"],
        ["evaluate", "--data", tmp_path, "--split", "dev"],
    ):
        outcome = run(*arguments)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.startswith("captionist: ")
        assert outcome.err.count("\n") == 1


def test_models_are_shown_and_verified(run: Run, model: Path, tmp_path: Path) -> None:
    shown = run("model", "show", model)
    assert shown.code == 0
    assert '"cider": 0.0' in shown.out
    assert "# tiny" in shown.out
    assert "9 files match" in run("model", "verify", model).out
    assert run("model", "list").code == 0
    copy = write_tiny_bundle(tmp_path / "copy")
    (copy / "scores.json").write_text("{}")
    damaged = run("model", "verify", copy)
    assert damaged.code == 1
    assert "scores.json was altered" in damaged.err


def test_an_empty_path_and_control_characters_are_spelt_out(run: Run, model: Path, photos: Path) -> None:
    assert "'': the path is empty" in run("caption", "", "--model", model).err
    path = write_png(photos / "x\t\n\x1b[2J.png", 1)
    outcome = run("caption", path, photos / "y\x1b[2J.png", "--model", model)
    assert outcome.out.count("\t") == outcome.out.count("\n") == 1
    assert outcome.out.startswith(f"{photos}/x\\t\\n\\x1b[2J.png\t")
    assert run("caption", path, "--model", model, "--json").records[0]["path"] == str(path)
    assert outcome.err.startswith(f"{photos}/y\\x1b[2J.png: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], ""),
        (["caption"], "PATH"),
        (["caption", "a.png", "--num-beams", "0"], "num_beams must be at least 1"),
        (["caption", "a.png", "--num-beams", "two"], "num_beams must be a whole number"),
        (["caption", "a.png", "--num-beams", str(10**18)], "num_beams must be at most 1000"),
        (["caption", "a.png", "--num-beams", "2", "--num-captions", "3"], "num_beams"),
        (["caption", "a.png", "--provider", "gpu"], "unknown provider 'gpu'"),
        (["describe", "a.png"], "describe"),
        (["evaluate", "--data", "."], "--split"),
        (["export", "run", "bundle", "--precision", "int4"], "int4"),
        (["score", "--references", "a", "--candidates", "b", "--json", "no/such.json"], "no such folder"),
    ],
)
def test_wrong_usage_is_code_2(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(photos)
    outcome = run(*arguments)
    assert (outcome.code, message in " ".join(outcome.err.split())) == (2, True)
