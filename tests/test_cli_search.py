"""captionist match, index and search, run as their users run them."""

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from captionist import Captioner, ImageIndex
from tests.conftest import Run
from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle
from tests.tools import COMMAND, command, small_disk

SENTENCES = ["A brown dog.", "two children on the beach", "A cat sleeps near a window."]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 20 pictures, below the current one."""
    monkeypatch.chdir(tmp_path)
    for seed in range(20):
        write_png(tmp_path / "photos" / f"{seed:02}.png", seed)
    return Path("photos")


def test_sentences_are_ranked_by_how_well_they_fit(run: Run, model: Path, photos: Path) -> None:
    cosines = Captioner(model).match(photos / "00.png", SENTENCES)
    order = np.argsort(-cosines)
    outcome = run("match", photos / "00.png", *SENTENCES, "--model", model)
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [row[2] for row in rows] == [SENTENCES[place] for place in order]
    assert [float(row[0]) for row in rows] == pytest.approx(cosines[order].tolist(), abs=1e-4)
    weights = np.exp(10 * cosines[order])  # 10 is the tiny model's scale
    assert [float(row[1]) for row in rows] == pytest.approx((weights / weights.sum()).tolist(), abs=1e-3)
    records = run("match", photos / "00.png", *SENTENCES, "--model", model, "--json").records
    assert [(list(record), record["sentence"]) for record in records] == [
        (["sentence", "cosine", "probability"], row[2]) for row in rows
    ]
    piped = command("match", "-", *SENTENCES, "--model", model, input=(photos / "00.png").read_bytes())
    assert piped.stdout == outcome.out.encode()


def test_names_and_sentences_are_printed_in_one_line_each(run: Run, model: Path, photos: Path) -> None:
    """For a single sentence, there is no probability."""
    cosine, sentence = run("match", photos / "00.png", "a\tdog\x1b[2J", "--model", model).out.rstrip("\n").split("\t")
    assert (sentence, -1 <= float(cosine) <= 1) == ("a\\tdog\\x1b[2J", True)
    (record,) = run("match", photos / "00.png", "a dog", "--model", model, "--json").records
    assert record["probability"] is None
    write_png(photos / "odd" / "x\t\nlatin\udce9.png", 1)
    assert run("index", photos / "odd", "--model", model).code == 0
    (record,) = run("search", "a dog", "--model", model, "--json").records
    assert record["path"] == str(photos / "odd" / "x\t\nlatin\udce9.png")
    printed = command("search", "a dog", "--model", model).stdout
    assert printed.endswith(b"\tphotos/odd/x\\t\\nlatin\xe9.png\n")


@pytest.mark.parametrize("sentence", ["", "  ", "...", "caf\udce9"])
def test_a_sentence_that_says_nothing_is_wrong_usage(run: Run, model: Path, photos: Path, sentence: str) -> None:
    run("index", photos, "--model", model)
    for arguments in (["match", photos / "00.png", "a dog", sentence], ["search", sentence]):
        outcome = run(*arguments, "--model", model)
        assert (outcome.code, outcome.out) == (2, "")
        assert repr(sentence) in outcome.err


def test_a_picture_or_an_alignment_that_is_missing_is_one_line(
    run: Run, model: Path, unaligned: Path, photos: Path
) -> None:
    for arguments, message in (
        (["match", "none.png", "a dog", "--model", model], "none.png: "),
        (["match", photos, "a dog", "--model", model], "photos"),
        (["match", photos / "00.png", "a dog", "--model", unaligned], "not trained to compare"),
        (["index", photos, "--model", unaligned], "not trained to compare"),
        (["search", "a dog", "--model", model], "captionist index PATH"),
    ):
        outcome = run(*arguments)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
        assert message in outcome.err
    assert not Path("captionist-index.npz").exists()


def test_a_search_finds_what_matching_each_picture_finds(run: Run, model: Path, photos: Path) -> None:
    outcome = run("index", photos, "--model", model)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "captionist-index.npz: 20 pictures, 20 of them read now\n"
    captioner = Captioner(model)
    cosines = {str(path): float(captioner.match(path, ["a dog"])[0]) for path in photos.iterdir()}
    expected = sorted(cosines, key=lambda path: -cosines[path])
    outcome = run("search", "a dog", "--model", model, "--top", 4)
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [path for _, path in rows] == expected[:4]
    assert [float(cosine) for cosine, _ in rows] == pytest.approx([cosines[path] for path in expected[:4]], abs=2e-3)
    records = run("search", "a dog", "--model", model, "--top", 99, "--json").records
    assert [record["path"] for record in records] == expected
    assert list(records[0]) == ["path", "cosine"]


def test_bad_pictures_are_a_line_each_and_the_others_are_indexed(run: Run, model: Path, photos: Path) -> None:
    (photos / "text.png").write_text("text")
    (photos / "cut.png").write_bytes((photos / "00.png").read_bytes()[:-30])
    outcome = run("index", photos, "gone.png", "-", "--model", model)
    assert outcome.code == 1
    names = [line.split(": ")[0] for line in outcome.err.splitlines()]
    assert names == ["-", "photos/cut.png", "photos/text.png", "gone.png"]
    assert len(ImageIndex.load("captionist-index.npz")) == 20


def test_an_index_is_not_emptied(run: Run, model: Path, photos: Path) -> None:
    run("index", photos, "--model", model)
    for path in photos.iterdir():
        path.write_text("text")
    assert run("index", photos, "--model", model, "--out", "new").code == 1
    assert not Path("new").exists()
    for where in (photos, "none", "none/*.png"):
        outcome = run("index", where, "--model", model)
        assert (outcome.code, outcome.out) == (1, "")
        assert "no picture to index; the old index is kept" in outcome.err
    assert run("index", "captionist-index.npz", "--model", model).code == 1  # no picture, but no error of a file either
    assert len(ImageIndex.load("captionist-index.npz")) == 20


def test_only_what_is_new_or_changed_is_read_again(run: Run, model: Path, photos: Path) -> None:
    def update() -> str:
        return run("index", ".", "--model", model).out.partition(": ")[2]

    assert update() == "20 pictures, 20 of them read now\n"
    before = {picture.path: picture.embedding for picture in ImageIndex.load("captionist-index.npz")}
    assert update() == "20 pictures, 0 of them read now\n"
    write_png(photos / "00.png", 99)
    (photos / "01.png").unlink()
    write_png(photos / "new.png", 100)
    assert update() == "20 pictures, 2 of them read now\n"
    after = {picture.path: picture.embedding for picture in ImageIndex.load("captionist-index.npz")}
    assert before.keys() ^ after.keys() == {"./photos/01.png", "./photos/new.png"}
    changed = {path for path in before.keys() & after.keys() if not np.array_equal(before[path], after[path])}
    assert changed == {"./photos/00.png"}


def test_an_index_of_another_model_is_not_searched_and_is_made_anew(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    other = write_tiny_bundle(tmp_path / "other", seed=1, aligned=True)
    run("index", photos, "--model", other)
    refused = run("search", "a dog", "--model", model)
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "another model" in refused.err
    assert "20 of them read now" in run("index", photos, "--model", model).out
    assert run("search", "a dog", "--model", model).code == 0


def test_a_file_that_is_no_index_is_neither_searched_nor_overwritten(run: Run, model: Path, photos: Path) -> None:
    picture = photos / "00.png"
    content = picture.read_bytes()
    for arguments in (["search", "a dog", "--index", picture], ["index", photos, "--out", picture]):
        outcome = run(*arguments, "--model", model)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
        assert "name another file" in outcome.err
    assert picture.read_bytes() == content
    assert run("index", photos, "--out", photos, "--model", model).code == 2
    assert run("index", photos, "--out", "no/folder.npz", "--model", model).code == 2


def stop(photos: Path, model: Path, number: int) -> int:
    """Send a signal to `captionist index` when it has read hundreds of pictures; its exit code."""
    bad = photos / "link2x.png"  # in the order that they are read in, after link2*; its line says so
    bad.write_text("text")
    arguments: list[str | Path] = [*COMMAND, "index", photos, "--model", model]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"link2x.png" in process.stderr.readline()
        process.send_signal(number)
        assert b"Traceback" not in process.communicate(timeout=60)[1]
    bad.unlink()
    return process.returncode


def test_a_run_that_is_stopped_keeps_what_was_there_and_ctrl_c_what_was_read(
    run: Run, model: Path, photos: Path
) -> None:
    assert run("index", photos, "--model", model).code == 0
    before = Path("captionist-index.npz").read_bytes()
    for seed in range(1500):
        (photos / f"link{seed}.png").symlink_to("00.png")
    assert stop(photos, model, signal.SIGKILL) == -signal.SIGKILL
    assert Path("captionist-index.npz").read_bytes() == before
    assert stop(photos, model, signal.SIGINT) == 130
    kept = len(ImageIndex.load("captionist-index.npz"))
    assert 20 < kept < 1520
    assert {path.name for path in Path().iterdir()} == {"photos", "captionist-index.npz"}
    assert run("index", photos, "--model", model).out.endswith(f" 1520 pictures, {1520 - kept} of them read now\n")


def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 64):
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        (photos / "bad.png").write_text("text")  # whose line would say that it has been read
        outcome = run("index", photos, "--out", tmp_path / "disk" / "index.npz", "--model", model)
        assert (outcome.code, outcome.out) == (2, "")
        assert "read-only" in outcome.err
