"""Writes benchmarks' tables into the documents, from the results that `make bench` has left.

A table's place is between two comments: <!-- latency: One picture --> and <!-- end -->. There is a table for each kind
of processor in benchmarks/results.

python -m benchmarks.tables
"""

import json
import re
from pathlib import Path
from typing import Any

from harness.report import model_hash

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PLACE = re.compile(r"(<!-- (\w+): (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """All documents that have places for tables."""
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if _PLACE.search(_read(path))]


def filled(document: str) -> str:
    """A document with the tables of the results. Raises ValueError for a place without a table in any result."""
    return _PLACE.sub(lambda place: place[1] + _tables(place[2], place[3]) + place[4], document)


def stale() -> list[str]:
    """Results that were measured with another embedded model; those without `model` are about other models."""
    results = {path: json.loads(_read(path)) for path in sorted(RESULTS.rglob("*.json"))}
    return [
        str(path.relative_to(ROOT)) for path, each in results.items() if each.get("model", model_hash()) != model_hash()
    ]


def _tables(benchmark: str, title: str) -> str:
    made = []
    for path in sorted(RESULTS.glob(f"*/{benchmark}.json"), reverse=True):  # so that AVX2 comes last
        result = json.loads(_read(path))
        table = next((table for table in result["tables"] if table["title"] == title), None)
        if table is not None:
            made.append(f"{_where(result)}\n\n{_markdown(table)}\n")
    if not made:
        raise ValueError(f"no result of benchmarks.{benchmark} has a table {title!r}: run make bench")
    return "\n" + "\n".join(made) + "\n"


def _where(result: dict[str, Any]) -> str:
    cores = "one core" if result["cores"] == 1 else f"{result['cores']} cores"
    return f"*{result['machine']}, {cores}, {result['date'][:10]}, at `{result['commit']}`*"


def _markdown(table: dict[str, Any]) -> str:
    rows = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> None:
    for path in documents():
        path.write_text(filled(_read(path)), encoding="utf-8")


if __name__ == "__main__":
    main()
