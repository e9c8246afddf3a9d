"""The dashboards: in step with the Python that writes them, sound, and every query answered by a real Prometheus."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from captionist.bundle import Bundle
from captionist.server.telemetry import Telemetry
from deploy.grafana.written import BOARDS, FOLDER, text
from tests.deploy.dashboard_queries import Window, ask, panels
from tests.deploy.dashboard_traffic import Stage, watched
from tests.tools import missing

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
PANELS = [(name, panel) for name in BOARDS for panel in panels(name) if panel["type"] != "row"]
QUERIES = [(name, panel, target) for name, panel in PANELS for target in panel["targets"]]
EMPTY = {
    ("quality", "Confidence, against a week ago", "B"): "nothing was recorded a week ago",
    ("quality", "Acceptance, against a week ago", "B"): "nothing was recorded a week ago",
}
"""Queries that a minute's traffic cannot fill, and why."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if shutil.which("prometheus") is None:
        missing("prometheus (apt-get install prometheus)")
    with watched(tmp_path_factory.mktemp("watched")) as stage:
        yield stage


def named(of: tuple[Any, ...]) -> str:
    return "/".join(part if isinstance(part, str) else part.get("title") or part["refId"] for part in of)


def metrics() -> set[str]:
    """The names of all series that a task, a scrape or a recording rule produces."""
    telemetry = Telemetry(Bundle.open().config, "0")
    idle = SimpleNamespace(waiting=0, admitted=0, ready=True, max_queue=64, max_batch=8)
    telemetry.watch(idle)  # type: ignore[arg-type]
    exposition = telemetry.exposition().decode()
    names = set(re.findall(r"^(\w+)(?:{| )", exposition, re.MULTILINE))
    names |= {"up", "ALERTS"}
    for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"):
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        names |= {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    return names


def used(expr: str) -> set[str]:
    return set(re.findall(r"\b(?:captionist_|process_|job:)[\w:]+|\bup\b|\bALERTS\b", re.sub(r'"[^"]*"', "", expr)))


@pytest.mark.parametrize("name", BOARDS)
def test_what_is_committed_is_what_the_python_writes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text(name), "run `python -m deploy.grafana`"
    assert {path.stem for path in FOLDER.glob("*.json")} == set(BOARDS)


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_a_panel_says_what_it_shows_and_where_to_read_on(panel: tuple[str, dict[str, Any]]) -> None:
    _, shown = panel
    assert shown["description"].endswith(".")
    unit = shown["options"]["yAxis"]["unit"] if shown["type"] == "heatmap" else shown["fieldConfig"]["defaults"]["unit"]
    assert unit
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    for link in shown.get("links", []):
        document, anchor = link["url"].split("#")
        assert document == "${docs:raw}/operations.md"
        assert anchor in [heading.lower() for heading in headings]


def test_every_metric_of_the_service_is_shown() -> None:
    shown = {name for _, _, target in QUERIES for name in used(target["expr"])}
    families = {re.sub(r"_(bucket|count|sum|created|total)$", "", name) for name in metrics()}
    ours = {name for name in families if name.startswith("captionist_")}
    assert ours == {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in shown if name.startswith("captionist_")}


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"][
        "scrape_interval"
    ]
    assert [source["type"] for source in sources["datasources"]] == ["prometheus"]
    assert sources["datasources"][0]["jsonData"]["timeInterval"] == scrape


def test_there_was_traffic_of_every_kind(stage: Stage) -> None:
    assert {200, 201, 401, 404, 415, 422, 429, 503} <= set(stage.statuses), stage.statuses


@pytest.mark.parametrize("query", QUERIES, ids=named)
def test_a_query_is_answered(stage: Stage, query: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    name, panel, target = query
    answers = ask(stage.prometheus, target, Window(stage.begun, stage.ended))
    values = [value for series in answers for _, value in series["values"] if math.isfinite(float(value))]
    if (name, panel["title"], target["refId"]) in EMPTY:
        assert not values, "it is no longer empty: take it out of EMPTY"
        return
    assert values, f"{panel['title']}: no data for {target['expr']}"
    labels = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
    assert all(labels <= series["metric"].keys() for series in answers)


@pytest.mark.parametrize("name", BOARDS)
def test_the_marks_of_alerts_can_be_asked_for(stage: Stage, name: str) -> None:
    """No alert need have fired; Prometheus must only understand the query."""
    for annotation in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["annotations"]["list"]:
        ask(stage.prometheus, annotation, Window(stage.begun, stage.ended))
