"""The rules of Prometheus: sound, tested for firing and for silence, on metrics that exist, each with a runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from captionist.bundle import Bundle
from captionist.server.telemetry import Telemetry
from tests.deploy.alerts import CASES
from tests.tools import missing

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = [
    rule
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = sorted({rule["alert"] for rule in RULES if "alert" in rule})


def promtool(*arguments: object) -> str:
    if shutil.which("promtool") is None:
        missing("promtool (apt-get install prometheus)")
    command = ["promtool", *map(str, arguments)]
    ended = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_rules_are_sound() -> None:
    assert promtool("check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yml"))).count("SUCCESS") == 3


@pytest.mark.slow
@pytest.mark.parametrize("days", [False, True])
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path, days: bool) -> None:
    """If a story lasts days, rules are evaluated less often."""
    tests = [
        {
            "name": case.name,
            "interval": case.interval,
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing",{where}}}) or vector(0)',
                    "eval_time": at,
                    "exp_samples": [{"labels": "{}", "value": int(fires)}],
                }
                for at, alert, fires, where in case.expected
            ],
        }
        for case in CASES
        if (case.interval != "1m") == days
    ]
    rules = [str(path) for path in (PROMETHEUS / "rules").glob("*.yml")]
    file = {"rule_files": rules, "evaluation_interval": "15m" if days else "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(file), encoding="utf-8")  # JSON is YAML
    promtool("test", "rules", tmp_path / "tests.yml")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_both_ways(alert: str) -> None:
    assert {one.fires for case in CASES for one in case.expected if one.alert == alert} == {True, False}


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    document, anchor = rule["annotations"]["runbook_url"].split("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]
    assert rule["alert"] in headings


def test_every_metric_of_the_rules_is_one_of_the_services() -> None:
    exposition = Telemetry(Bundle.open().config, "0").exposition().decode()
    known = set(re.findall(r"^(\w+)(?:{| )", exposition, re.MULTILINE)) | {"up"}
    used = {
        name
        for rule in RULES
        for name in re.findall(r"(?<![\w:])(captionist_\w+|process_\w+|up)(?=[{\[\s)])", rule["expr"])
    }
    assert len(used) > 8
    assert used <= known
