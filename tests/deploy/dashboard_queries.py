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
_SCRAPE = 1  # seconds


def panels(name: str) -> Iterator[dict[str, Any]]:
    """The panels in dashboards/NAME.json, rows among them."""
    yield from json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["panels"]


@dataclass(frozen=True)
class Window:
    """The time shown, in UNIX seconds."""

    begun: float
    ended: float

    @property
    def step(self) -> int:
        """Grafana's $__interval, seconds."""
        return max(_SCRAPE, math.ceil((self.ended - self.begun) / _POINTS))

    def fill_in(self, expr: str) -> str:
        """Put values for a query's variables: all tasks, and Grafana's rule for $__rate_interval."""
        seconds = math.ceil(self.ended - self.begun)
        values = {
            "job": "captionist",
            "instance": ".*",
            "__rate_interval": f"{max(self.step + _SCRAPE, 4 * _SCRAPE)}s",
            "__range": f"{seconds}s",
            "__range_s": str(seconds),
        }
        return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


def result(prometheus: HttpProcess, kind: str, **parameters: Any) -> Any:
    """Prometheus's answer. kind: query or query_range. Raises ValueError if it refuses the query."""
    status, body = prometheus.get(f"/api/v1/{kind}?{urlencode(parameters)}")
    answer = json.loads(body)
    if status != 200:
        raise ValueError(f"{parameters['query']}: {answer['error']}")
    return answer["data"]["result"]


def ask(prometheus: HttpProcess, target: dict[str, Any], window: Window) -> list[dict[str, Any]]:
    """A panel's series, over the window or at its end: `metric` has the labels, `values` the points."""
    expr = window.fill_in(target["expr"])
    if target.get("instant"):
        found = result(prometheus, "query", query=expr, time=window.ended)
        return [series | {"values": [series["value"]]} for series in found]
    times = {"start": window.begun, "end": window.ended, "step": window.step}
    series: list[dict[str, Any]] = result(prometheus, "query_range", query=expr, **times)
    return series
