"""Ask Prometheus what a dashboard's panels ask, as Grafana would."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from deploy.grafana.written import FOLDER
from harness.processes import HttpProcess

_POINTS = 150  # of a curve; Grafana's number is the panel's width in pixels


@dataclass(frozen=True)
class Window:
    """The time shown, in UNIX seconds, and how often Prometheus scrapes."""

    begun: float
    ended: float
    scrape: int = 1

    @property
    def step(self) -> int:
        """Grafana's $__interval, seconds."""
        return max(self.scrape, math.ceil((self.ended - self.begun) / _POINTS))

    def fill_in(self, expr: str) -> str:
        """Put values for a query's variables: all tasks, and Grafana's rule for $__rate_interval."""
        seconds = math.ceil(self.ended - self.begun)
        values = {
            "job": "captionist",
            "instance": ".*",
            "__interval": f"{self.step}s",
            "__rate_interval": f"{max(self.step + self.scrape, 4 * self.scrape)}s",
            "__range": f"{seconds}s",
            "__range_s": str(seconds),
        }
        return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


@dataclass(frozen=True)
class Answered:
    """A series: its labels, what its legend says, and its points."""

    labels: dict[str, str]
    legend: str
    times: list[float]
    values: list[float]


def panels(name: str) -> Iterator[dict[str, Any]]:
    """The panels in dashboards/NAME.json, rows among them."""
    yield from json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["panels"]


def ask(prometheus: HttpProcess, target: dict[str, Any], window: Window) -> list[Answered]:
    """A panel's query, over the window or at its end. Raises ValueError where Prometheus refuses it."""
    expr = window.fill_in(target["expr"])
    if target.get("instant"):
        path = "/api/v1/query?" + urlencode({"query": expr, "time": window.ended})
    else:
        times = {"start": window.begun, "end": window.ended, "step": window.step}
        path = "/api/v1/query_range?" + urlencode({"query": expr, **times})
    status, body = prometheus.get(path)
    answer = json.loads(body)
    if status != 200:
        raise ValueError(f"{expr}: {answer['error']}")
    series = []
    for found in answer["data"]["result"]:
        labels = {key: value for key, value in found["metric"].items() if key != "__name__"}
        points = found.get("values") or [found["value"]]
        series.append(
            Answered(labels, _legend(target, labels), [float(t) for t, _ in points], [float(v) for _, v in points])
        )
    return series


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target.get("legendFormat", ""))
