"""CloudWatch's embedded metric format, as its specification has it.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import math
import time
from typing import Any

_UNITS = {
    "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits",
    "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count", "None",
}  # fmt: skip
_OLDEST, _NEWEST = 14 * 86400, 2 * 3600  # seconds from now that CloudWatch takes


def faults(line: str) -> list[str]:
    """What is wrong with a line of a log as far as CloudWatch would take metrics out of it."""
    try:
        root = json.loads(line, parse_constant=_no_number)
        metadata = root["_aws"]
        directives = metadata["CloudWatchMetrics"]
    except (ValueError, TypeError, KeyError) as error:
        return [f"not a document with metrics: {error!r}"]
    found = [] if len(line.encode()) <= 256 * 1024 else ["larger than 256 KiB"]
    stamp = metadata.get("Timestamp")
    if type(stamp) is not int or not -_OLDEST < stamp / 1000 - time.time() < _NEWEST:
        found.append(f"Timestamp {stamp} is not in milliseconds, or not of now")
    if set(metadata) != {"Timestamp", "CloudWatchMetrics"} or not directives:
        found.append("_aws has other members, or no directive")
    return found + [fault for directive in directives for fault in _of_directive(directive, root)]


def _of_directive(directive: dict[str, Any], root: dict[str, Any]) -> list[str]:
    found = []
    if set(directive) != {"Namespace", "Dimensions", "Metrics"} or not _is_text(directive["Namespace"], 1024):
        return ["a directive needs Namespace, Dimensions and Metrics, and nothing else"]
    if not directive["Dimensions"]:
        found.append("no set of dimensions")
    for names in directive["Dimensions"]:
        if len(names) > 30:
            found.append("more than 30 dimensions")
        found += [
            f"dimension {name}" for name in names if not _is_text(name, 250) or not _is_text(root.get(name), 1024)
        ]
    metrics = directive["Metrics"]
    if not 0 < len(metrics) <= 100 or len({metric["Name"] for metric in metrics}) < len(metrics):
        found.append("more than 100 metrics, none, or one twice")
    for metric in metrics:
        name, values = metric["Name"], root.get(metric["Name"])
        if not set(metric) <= {"Name", "Unit", "StorageResolution"} or not _is_text(name, 1024):
            found.append(f"{name} has other members")
        if metric.get("Unit", "None") not in _UNITS:
            found.append(f"{name} has the unit {metric['Unit']}")
        if metric.get("StorageResolution", 60) not in (1, 60):
            found.append(f"{name} has another resolution")
        values = values if isinstance(values, list) else [values]
        if not 0 < len(values) <= 100 or not all(_is_number(value) for value in values):
            found.append(f"{name} is neither a number nor a list of at most 100")
    return found


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= longest


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
