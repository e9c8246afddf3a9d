"""Writes docs/http.md, the API and the metrics of the service: python -m tests.http_reference."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

from prometheus_client.metrics import MetricWrapperBase

from captionist.bundle import Bundle, embedded
from captionist.server.app import create_app
from captionist.server.settings import Settings
from captionist.server.telemetry import Telemetry

DOCUMENT = Path(__file__).parents[1] / "docs" / "http.md"
_HEAD = """# HTTP reference

Written by `python -m tests.http_reference` from the service's own `/openapi.json` and `/metrics`. `/docs` of a running
service has the same to try out, with the schemas of all bodies. [The service](service.md) has examples, and
[what each problem means](service.md#errors); the routes of OpenAI and Ollama are in
[compatible APIs](compatible-apis.md)."""
_METRICS = """## Metrics

`/metrics` has these for Prometheus, beside those of the process and of Python's garbage collection:

| metric | kind | labels | what it is |
|---|---|---|---|"""


def render_http() -> str:
    """The whole document."""
    document = create_app(Mock(settings=Settings())).openapi()
    parts = [_HEAD]
    for path, methods in document["paths"].items():
        parts += [_operation(f"{method.upper()} {path}", operation) for method, operation in methods.items()]
    return "\n\n".join([*parts, "\n".join([_METRICS, *_metrics()])]) + "\n"


def _operation(name: str, operation: dict[str, Any]) -> str:
    parts = [f"## {name}", f"{operation['summary']}. {operation['description']}"]
    parameters = operation.get("parameters", [])
    rows = [f"| `{each['name']}` | {each['in']} | {each.get('description', '')} |" for each in parameters]
    if rows:
        parts.append("\n".join(["| parameter | in | meaning |", "|---|---|---|", *rows]))
    if body := operation.get("requestBody"):
        parts.append(f"Body: {', '.join(f'`{kind}`' for kind in body['content'])}.")
    rows = [f"| {status} | {answer['description']} |" for status, answer in sorted(operation["responses"].items())]
    return "\n\n".join([*parts, "\n".join(["| status | meaning |", "|---|---|", *rows])])


def _metrics() -> list[str]:
    telemetry = Telemetry(Bundle.open(embedded()).config, "")
    telemetry.watch(Mock(max_queue=64, max_batch=8))
    collectors = telemetry.registry._names_to_collectors.values()
    return sorted({_metric(each) for each in collectors if isinstance(each, MetricWrapperBase)})


def _metric(metric: MetricWrapperBase) -> str:
    name = f"{metric._name}_total" if metric._type == "counter" else metric._name
    return f"| `{name}` | {metric._type} | {', '.join(metric._labelnames)} | {metric._documentation} |"


if __name__ == "__main__":
    DOCUMENT.write_text(render_http(), encoding="utf-8")
