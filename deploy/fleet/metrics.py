"""What CloudWatch would make of the tasks' logs: the embedded metrics in them, averaged over a period."""

import json
from collections.abc import Iterable


def embedded(line: str) -> dict[str, float] | None:
    """A log line's metrics that are single numbers, by name; None where the line carries no metrics."""
    if '"_aws"' not in line:
        return None
    document = json.loads(line)
    names = [metric["Name"] for part in document["_aws"]["CloudWatchMetrics"] for metric in part["Metrics"]]
    return {name: float(document[name]) for name in names if isinstance(document[name], int | float)}


def average(lines: Iterable[dict[str, float]], name: str) -> float | None:
    """The statistic `Average` of one period; None where nothing was reported in it."""
    values = [line[name] for line in lines if name in line]
    return sum(values) / len(values) if values else None
