"""The rules of Prometheus: sound, tested for firing and for silence, on metrics that exist, each with a runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from captionist.bundle import Bundle
from captionist.server.telemetry import Telemetry
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
@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_both_ways(alert: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (PROMETHEUS / "tests").glob("*.yml"))
    values = re.findall(rf'alertname="{alert}".*?value: (\d)', text, re.DOTALL)
    assert {"0", "1"} <= set(values)


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
