"""The documents are true: docs/cli.md is the commands' help, and README's Python runs."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import tables
from captionist import Caption, Captioner
from captionist.server.problems import PROBLEMS
from tests.cli_help import render_help
from tests.http_reference import render_http
from tests.options_table import render_options

ROOT = Path(__file__).parents[1]


def test_the_command_line_is_documented_as_it_is() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == render_help(), "run: python -m tests.cli_help"


def test_the_options_of_a_search_are_documented_as_they_are() -> None:
    document = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert document == render_options(), "run: python -m tests.options_table"


def test_the_service_is_documented_as_it_is() -> None:
    document = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    assert document == render_http(), "run: python -m tests.http_reference"


def test_the_tables_of_benchmarks_are_those_of_their_results() -> None:
    for path in tables.documents():
        document = path.read_text(encoding="utf-8")
        assert document == tables.filled(document), "run: python -m benchmarks.tables"


def test_benchmarks_have_measured_the_model_that_is_embedded() -> None:
    assert not tables.stale(), "run: make bench"


def test_a_table_is_that_of_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    result = {"machine": "Abacus", "cores": 1, "date": "2026-01-02T03:04", "commit": "abc", "model": "another"}
    table = {"title": "Beads", "columns": ["", "ms"], "rows": [["ours", "1.0"]]}
    (tmp_path / "wood").mkdir()
    (tmp_path / "wood" / "latency.json").write_text(json.dumps(result | {"tables": [table]}))
    filled = tables.filled("before\n<!-- latency: Beads -->\nold\n<!-- end -->\nbehind\n")
    assert "| ours | 1.0 |" in filled
    assert "*Abacus, one core, 2026-01-02, at `abc`*" in filled
    assert "old" not in filled
    assert tables.filled(filled) == filled
    assert tables.stale() == ["wood/latency.json"]
    with pytest.raises(ValueError, match=r"no result of benchmarks\.latency has a table 'Pearls'"):
        tables.filled("<!-- latency: Pearls -->\n<!-- end -->")


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_the_python_in_it_runs(
    document: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), {})
    assert capsys.readouterr().out.strip()


def test_every_problem_is_documented() -> None:
    document = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \| (.*) \|$", document, re.MULTILINE)
    assert {name: (int(status), title) for status, name, title in rows} == PROBLEMS


def test_the_failures_are_what_the_model_says() -> None:
    """Within what the page says: other arithmetic may put another of twelve captions first."""
    document = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| !\[\]\((.*?)\) \| (.*?) \|", document, re.MULTILINE)
    assert len(rows) >= 6
    captioner = Captioner()
    count = captioner.defaults.num_beams
    said = {name: captioner.caption(ROOT / "docs" / name, num_captions=count) for name, _ in rows}
    assert not {name: best for name, best in said.items() if dict(rows)[name] not in texts(best)}
    assert 2 * sum(said[name].text == text for name, text in rows) > len(rows)


def texts(caption: Caption) -> list[str]:
    """What was said of a picture, best first."""
    return [caption.text, *(other.text for other in caption.alternatives)]
