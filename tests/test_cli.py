"""The command line, run as its users run it."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from captionist.images import decode
from tests.conftest import Run
from tests.images.samples import SAMPLES
from tests.pictures import write_png
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

COMMAND = [sys.executable, "-m", "captionist.cli"]


def write_jpeg(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path.write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for seed, name in enumerate(["a.png", "b.png", "sub/a.png", ".hidden.png"]):
        write_png(tmp_path / "photos" / name, seed)
    return tmp_path / "photos"


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
    lines = run("caption", photos / "a.png", "--model", model, "--num-captions", 3).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [f"{photos}/a.png"] * 3
    assert len(set(lines)) == 3


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


def test_max_words_is_kept(run: Run, model: Path, photos: Path) -> None:
    lines = run("caption", photos, "--model", model, "--max-words", 2).out.splitlines()
    assert max(len(line.split("\t")[1].split()) for line in lines) <= 2


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
    # The embedded model compares pictures with sentences, which an index needs.
    rest = ["--out", tmp_path / "index.npz"] if command == "index" else ["--model", model]
    arguments = [command, photos / "a.png", *rest]
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


def test_a_tab_in_a_name_cannot_be_taken_for_a_field(run: Run, model: Path, photos: Path) -> None:
    path = write_png(photos / "x\ty\nz.png", 1)
    outcome = run("caption", path, "--model", model)
    assert outcome.out.count("\t") == outcome.out.count("\n") == 1
    assert outcome.out.startswith(f"{photos}/x\\ty\\nz.png\t")
    assert run("caption", path, "--model", model, "--json").records[0]["path"] == str(path)


def test_explain_writes_a_sheet_for_each_picture(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    assert run("caption", photos, "--model", model, "--explain", tmp_path / "sheets").code == 0
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [sheet.name for sheet in sheets] == ["a-2.jpg", "a.jpg", "b.jpg"]
    assert all(decode(sheet).shape[1] > 200 for sheet in sheets)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["caption"],
        ["caption", "a.png", "--num-beams", "0"],
        ["caption", "a.png", "--num-beams", "two"],
        ["caption", "a.png", "--colour"],
        ["describe", "a.png"],
        ["evaluate", "--data", "."],
        ["export", "run", "bundle", "--precision", "int4"],
        ["score", "--references", "a.json", "--candidates", "b.json", "--json", "no/such/folder.json"],
    ],
)
def test_wrong_usage_is_code_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).code == 2


def test_more_captions_than_beams_is_wrong_usage(run: Run, model: Path, photos: Path) -> None:
    outcome = run("caption", photos, "--model", model, "--num-beams", 2, "--num-captions", 3)
    assert (outcome.code, outcome.out) == (2, "")
    assert "num_beams" in outcome.err


def test_beams_beyond_all_memory_are_wrong_usage(run: Run, model: Path, photos: Path) -> None:
    outcome = run("caption", photos, "--model", model, "--num-beams", 10**18)
    assert outcome.code == 2
    assert "num_beams must be at most 1000" in " ".join(outcome.err.split())


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


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start; its absence is a note among the scores."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six pictures in Kaggle's layout of Flickr8k."""
    rows = ["image,caption"]
    for seed in range(6):
        write_png(tmp_path / "corpus" / "Images" / f"{seed}.jpg", seed)
        rows += [f"{seed}.jpg,{sentence.strip()}" for sentence in SENTENCES]
    (tmp_path / "corpus" / "captions.txt").write_text("\n".join(rows) + "\n")
    return tmp_path / "corpus"


def test_a_corpus_is_inspected(run: Run, corpus: Path, model: Path) -> None:
    outcome = run("data", "inspect", corpus, "--model", model, "--max-caption-tokens", 9)
    assert outcome.code == 0
    assert "24" in outcome.out


def test_pictures_of_a_corpus_are_opened_when_that_is_asked_for(run: Run, corpus: Path, model: Path) -> None:
    bad = [corpus / "Images" / f"{seed}.jpg" for seed in (1, 4)]
    for path in bad:
        path.write_bytes(b"not a picture")
    closed = run("data", "inspect", corpus, "--model", model)
    assert (closed.code, closed.err) == (0, "")
    assert "The pictures were not opened: --open-pictures finds those that cannot be read." in closed.out
    opened = run("data", "inspect", corpus, "--model", model, "--open-pictures")
    assert opened.code == 1
    assert [line.split(": ")[0] for line in opened.err.splitlines()] == [str(path) for path in bad]
    assert "unreadable_picture 2: the picture cannot be decoded" in opened.out
    assert "not opened" not in opened.out
    for path in corpus.glob("Images/*"):
        path.write_bytes(b"not a picture")
    none = run("data", "inspect", corpus, "--model", model, "--open-pictures")
    assert (none.code, none.out) == (1, "")
    assert "not one of its 6 pictures can be read" in none.err


@pytest.mark.usefixtures("no_java")
def test_a_model_is_evaluated_on_a_corpus(run: Run, corpus: Path, model: Path, tmp_path: Path) -> None:
    scores, page = tmp_path / "scores.json", tmp_path / "page.html"
    outcome = run(
        *("evaluate", "--data", corpus, "--split", "train", "--model", model, "--limit", 3, "--num-beams", 1),
        *("--json", scores, "--report", page),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert "BLEU-4" in outcome.out
    content = json.loads(scores.read_text())
    assert (content["scores"]["pictures"], content["search"]["num_beams"]) == (3, 1)
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.usefixtures("no_java")
def test_a_model_with_an_alignment_is_asked_what_it_finds(run: Run, corpus: Path, tmp_path: Path) -> None:
    model, page = write_tiny_bundle(tmp_path / "aligned", aligned=True), tmp_path / "page.html"
    outcome = run("evaluate", "--data", corpus, "--split", "train", "--model", model, "--limit", 3, "--report", page)
    assert (outcome.code, outcome.err) == (0, "")
    assert "not comparable with published" in " ".join(outcome.out.split())  # wherever the line breaks
    assert "recall of the model's own alignment among 3 pictures" in outcome.out
    assert "match score" in page.read_text()


def test_what_is_no_clip_is_an_error_before_the_work(run: Run, corpus: Path, model: Path, tmp_path: Path) -> None:
    outcome = run("evaluate", "--data", corpus, "--split", "train", "--model", model, "--clip", tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert "cannot be loaded as a CLIP" in outcome.err


@pytest.mark.usefixtures("no_java")
def test_captions_of_any_origin_are_scored(run: Run, tmp_path: Path) -> None:
    references, candidates, result = (tmp_path / f"{name}.json" for name in ("refs", "cands", "scores"))
    references.write_text(json.dumps({"1": ["a dog runs on grass"], "2": ["two men sit on a bench"]}))
    candidates.write_text(json.dumps({"1": "a dog runs on grass", "2": "two men sit on a bench"}))
    outcome = run("score", "--references", references, "--candidates", candidates, "--json", result)
    assert outcome.code == 0
    assert json.loads(result.read_text())["bleu_4"]["value"] == pytest.approx(100)


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
    done = subprocess.run(
        [sys.executable, "-m", "captionist.cli", "caption", photos / "a.png", "--model", model],
        env={"HOME": str(home), "TMPDIR": str(temporary)},  # without CI, in which ONNX Runtime is silent by itself
        capture_output=True,
    )
    assert done.returncode == 0
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
    command: list[str | bytes] = [*COMMAND, "caption", "-", odd, "--model", str(model)]
    done = subprocess.run(command, input=picture, capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert [line.split(b"\t")[0] for line in done.stdout.splitlines()] == [b"-", odd]
    as_json = subprocess.run([*command, "--json"], input=picture, capture_output=True)
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


def test_on_a_terminal_lines_and_the_bar_keep_apart(model: Path, photos: Path) -> None:
    """Run under a pseudo-terminal of 200 columns: every line starts at the left, though a bar is being drawn."""
    (photos / "bad.png").write_bytes(b"text")
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "200", "TERM": "xterm"}
    command: list[str | Path] = [*COMMAND, "caption", photos, "--model", model]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    screen = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end was closed
        while part := os.read(ours, 65536):
            screen += part
    os.close(ours)
    assert process.wait() == 1
    assert b"captioning" in screen
    bare = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", screen)
    lines = re.findall(rb"(?:^|[\r\n])" + re.escape(os.fsencode(photos)) + rb"[^\r\n]*", bare)
    assert len(lines) == 4


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


def test_the_tests_run_in_the_background_too() -> None:
    """A shell starts jobs in the background with Ctrl-C ignored, and what they start would ignore it, too."""
    test = f"{__file__}::test_ctrl_c_stops_cleanly"
    shell = [
        "sh",
        "-c",
        "trap '' INT; exec \"$@\"",
        "sh",
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        test,
    ]
    done = subprocess.run(shell, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
@pytest.mark.parametrize("command", ["caption", "inspect"])
def test_output_that_cannot_be_written_is_one_line(
    model: Path, photos: Path, corpus: Path, command: str, redirect: str
) -> None:
    arguments: list[str | Path] = ["caption", photos] if command == "caption" else ["data", "inspect", corpus]
    shell: list[str | Path] = ["sh", "-c", f'"$@" {redirect}', "sh", *COMMAND, *arguments, "--model", model]
    done = subprocess.run(shell, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"captionist: .*output.*\n", done.stderr)


def test_a_closed_standard_input_is_one_line(model: Path, photos: Path) -> None:
    shell: list[str | Path] = [
        "sh",
        "-c",
        '"$@" <&-',
        "sh",
        *COMMAND,
        "caption",
        "-",
        photos / "a.png",
        "--model",
        model,
    ]
    done = subprocess.run(shell, capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert re.fullmatch(r"-: .*closed.*\n1 captioned, 1 failed in .*\n", done.stderr)


def test_libraries_in_c_write_no_lines_of_their_own(model: Path, photos: Path) -> None:
    jpeg = bytearray(write_jpeg(photos / "c.jpg").read_bytes())
    jpeg[-60:-40] = b"\xff\xd0" * 10  # restart markers where none belong
    (photos / "c.jpg").write_bytes(jpeg)
    command: list[str | Path] = [*COMMAND, "caption", photos / "c.jpg", photos / "gone.png", "--model", model]
    lines = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()[:-1]
    assert lines
    assert all(line.startswith(f"{photos}/") for line in lines)


def test_an_empty_path_and_control_characters_are_spelt_out(run: Run, model: Path, photos: Path) -> None:
    assert "'': the path is empty" in run("caption", "", "--model", model).err
    outcome = run("caption", write_png(photos / "x\x1b[2J.png", 1), photos / "y\x1b[2J.png", "--model", model)
    assert outcome.out.startswith(f"{photos}/x\\x1b[2J.png\t")
    assert outcome.err.startswith(f"{photos}/y\\x1b[2J.png: ")


def test_an_iphone_photograph_is_captioned(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(SAMPLES["heic"])
    outcome = run("caption", tmp_path, "--model", model)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{tmp_path}/IMG_1.HEIC\t")


def test_a_provider_that_is_not_there_is_wrong_usage(run: Run, model: Path, photos: Path) -> None:
    outcome = run("caption", photos / "a.png", "--model", model, "--provider", "gpu")
    assert outcome.code == 2
    assert "unknown provider 'gpu'" in outcome.err
