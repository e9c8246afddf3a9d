"""captionist caption --format, for whom the output is made."""

import csv
import io
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from captionist.captions import Caption
from captionist.commands.formats import CaptionFormat, lines
from tests.conftest import Run
from tests.pictures import write_png


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(['a "1" & b?.png', "b.png"]):
        write_png(tmp_path / "photos" / name, seed)
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def said(text: str, confidence: float = 0.5, *others: str) -> Caption:
    return Caption(text, -1.0, confidence, tuple(said(other, confidence) for other in others), ())


def images(page: str) -> list[dict[str, str | None]]:
    found: list[dict[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(dict([("tag", tag), *attrs]))

    Reader().feed(page)
    return found


def test_alt_is_the_sentence_alone(run: Run, model: Path, photos: Path) -> None:
    texts = [line.split("\t")[1] for line in run("caption", photos, "--model", model).out.splitlines()]
    assert run("caption", photos, "--model", model, "--format", "alt").out.splitlines() == texts
    assert lines(CaptionFormat.ALT, "a.jpg", said('A dog\'s "tag" & <b>.'), 0) == [
        "A dog's &quot;tag&quot; &amp; &lt;b&gt;."
    ]
    assert lines(CaptionFormat.ALT, "a.jpg", said("A dog."), 0.6) == [""]
    assert lines(CaptionFormat.ALT, "a.jpg", said("A dog.", 0.5, "A cat."), 0) == ["A dog.", "A cat."]


def test_html_shows_the_pictures_with_their_texts(run: Run, model: Path, photos: Path) -> None:
    done = run("caption", photos, "--model", model, "--format", "html")
    records = run("caption", photos, "--model", model, "--json").records
    assert [(image["tag"], unquote(image["src"] or ""), image["alt"]) for image in images(done.out)] == [
        ("img", record["path"], record["text"]) for record in records
    ]
    hostile = lines(CaptionFormat.HTML, 'x"><script>.png', said('"><script>'), 0)
    assert [(image["tag"], image["alt"]) for image in images(hostile[0])] == [("img", '"><script>')]
    assert lines(CaptionFormat.HTML, "caf\udce9:1.jpg", said("A dog."), 0) == [
        '<img src="caf%E9%3A1.jpg" alt="A dog.">'
    ]
    # An empty alt would call the picture decoration.
    assert lines(CaptionFormat.HTML, "a.jpg", said("A dog."), 0.6) == ['<img src="a.jpg">']


def test_csv_is_read_by_csv_readers(run: Run, model: Path, photos: Path) -> None:
    (photos / "c.png").write_bytes(b"")
    done = run("caption", photos, "--model", model, "--format", "csv")
    assert (done.code, done.out.count("\r\n")) == (1, 3)
    assert done.err.startswith(f"{photos}/c.png: ")
    header, *rows = csv.reader(io.StringIO(done.out, newline=""))
    records = run("caption", photos, "--model", model, "--json").records
    assert header == ["path", "caption", "confidence"]
    assert [row[:2] for row in rows] == [[record["path"], record["text"]] for record in records[:2]]
    assert [float(row[2]) for row in rows] == pytest.approx([record["confidence"] for record in records[:2]], abs=1e-4)


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a.jpg", "-a.jpg", "@SUM(A1).jpg", "\uff1da.jpg"])
def test_no_cell_of_csv_is_a_formula(name: str) -> None:
    ((path, caption, _),) = csv.reader(lines(CaptionFormat.CSV, name, said(f"{name}, said."), 0))
    assert (path, caption) == (f"'{name}", f"'{name}, said.")
    (line,) = lines(CaptionFormat.CSV, 'a,"b"\r\n=1.jpg', said("A dog."), 0)
    assert line == '"a,""b""\\r\\n=1.jpg",A dog.,0.5000\r'


def test_lines_of_csv_end_alike_on_every_system(model: Path, photos: Path) -> None:
    """Where text has other line ends, as on Windows, they must not be doubled."""
    code = "import sys\nsys.stdout.reconfigure(newline='\\r\\n')\nfrom captionist.cli import main\nmain(sys.argv[1:])"
    arguments: list[str | Path] = ["caption", photos / "b.png", "--model", model, "--format", "csv"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
    assert done.stdout.startswith(b"path,caption,confidence\r\nphotos/b.png,")
    assert b"\r\r" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--format", "csv"], "choose one"),
        (["--format", "html", "--num-captions", "2"], "one alt"),
        (["--format", "xml"], "xml"),
        (["--format", "csv", "--out", "table"], "--format cannot be used with --out"),
        (["--sidecar", "--out", "table"], "--sidecar cannot be used with --out"),
        (["--overwrite"], "--overwrite needs --sidecar"),
        (["--renew"], "--renew needs --sidecar"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(run: Run, photos: Path, arguments: list[str], message: str) -> None:
    done = run("caption", photos, *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.split())


def test_format_json_is_json(run: Run, model: Path, photos: Path) -> None:
    arguments = ["caption", photos, "none.png", "--model", model]
    assert (
        run(*arguments, "--format", "json").out
        == run(*arguments, "--json").out
        == run(*arguments, "--json", "--format", "json").out
    )
