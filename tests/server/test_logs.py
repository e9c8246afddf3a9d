"""docs/logs.md keeps its word: its tables and its queries, held against what a service has really logged."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from captionist.server import app
from tests.server.conftest import ADMIN_KEY, KEY, KEYS
from tests.server.serving import Running
from tests.tools import wait_until

DOCUMENT = (Path(__file__).parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```insights\n(.*?)```", DOCUMENT, re.DOTALL)
ROOT = "1-67891233-abcdef012345678912345678"
# The words of CloudWatch Logs Insights' language.
INSIGHTS = {
    "filter", "fields", "stats", "sort", "limit", "and", "or", "in", "by", "as", "asc", "desc", "count", "pct",
}  # fmt: skip


def documented(heading: str, place: int = 0) -> list[list[str]]:
    """The rows of a table below a heading, cells without their quotes."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE)[place]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, dog: bytes) -> list[dict[str, Any]]:
    """What is logged of requests of many kinds."""
    keys = [key.model_dump(exclude_none=True) for key in KEYS]
    keys[1]["rate"] = "1/hour"
    settings: dict[str, Any] = {"api_keys": keys, "emf_interval": "0.5", "max_queue": "1"}
    with Running(tmp_path_factory.mktemp("logs"), **settings) as service:

        def ask(body: bytes, key: str, **headers: str) -> None:
            service.ask("/v1/captions", body, Authorization=f"Bearer {key}", **headers)

        ask(dog, KEY, **{"X-Amzn-Trace-Id": f"Root={ROOT}"})
        ask(dog, KEY, **{"X-Amzn-Trace-Id": f"Root={ROOT}", "X-Request-ID": "mine"})
        ask(b"no picture", KEY)
        ask(dog, "wrong")
        for _ in range(2):
            ask(dog, ADMIN_KEY)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(dog, KEY), range(16)))
        wait_until(lambda: '"_aws"' in service.log.read_text())
        service.stop()
        return service.lines


def requests(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("event") == "request"]


def test_the_fields_of_a_request_are_those_documented(lines: list[dict[str, Any]]) -> None:
    assert {status for line in requests(lines) if (status := line["status"])} == {200, 401, 415, 429, 503}
    told = {name for row in documented("Lines") for name in names(row[0])}
    assert {name for line in requests(lines) for name in line} == told
    assert all(set(line) >= told - {"trace_id"} for line in requests(lines))
    assert [line["request_id"] for line in requests(lines) if line.get("trace_id") == ROOT] == ["mine"]


def test_the_events_are_those_documented(lines: list[dict[str, Any]]) -> None:
    rows = {
        name: (level, names(fields)) for (event, level, fields, _) in documented("Lines", 1) for name in names(event)
    }
    source = "".join(path.read_text(encoding="utf-8") for path in Path(app.__file__).parent.rglob("*.py"))
    written = re.findall(r'_log\.(\w+)\(\s*"([^"]+)"', source)
    assert {event for _, event in written} - {"request"} == set(rows)
    levels = {event: {"exception": "error"}.get(level, level) for level, event in written}
    assert {event: level for event, (level, _) in rows.items()} == {e: levels[e] for e in rows}
    for line in lines:
        if line.get("event") in rows:
            level, fields = rows[line["event"]]
            assert set(line) == {"event", "timestamp", "level", *fields}
            assert line["level"] == level


def test_the_metrics_are_those_documented(lines: list[dict[str, Any]]) -> None:
    told = {name: unit for cell, unit, _ in documented("Metrics for CloudWatch") for name in names(cell)}
    directives = [line["_aws"]["CloudWatchMetrics"][0] for line in lines if "_aws" in line]
    assert {metric["Name"]: metric["Unit"] for of in directives for metric in of["Metrics"]} == told


def test_there_are_five_queries() -> None:
    assert len(QUERIES) == 5


@pytest.mark.parametrize("text", QUERIES, ids=lambda text: text.split("\n")[1][2:30])
def test_a_query_asks_for_what_is_logged(lines: list[dict[str, Any]], text: str) -> None:
    logged = [(name, value) for line in requests(lines) for name, value in line.items() if value is not None]
    bare = re.sub(r'"[^"]*"|bin\(\w+\)', "", text)
    aliases = set(re.findall(r" as (\w+)", bare))
    names = set(re.findall(r"@?[a-z_]\w*", bare)) - aliases - INSIGHTS
    assert names <= {name for name, _ in logged} | {"@timestamp", "@message"}
    assert set(re.findall(r'(\w+) = "([^"]*)"', text)) - {("trace_id", ROOT)} <= set(logged)
