"""What every benchmark prints and writes."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_BUNDLES = Path(__file__).parents[1] / "src" / "captionist" / "bundles"
_shown: list[dict[str, Any]] = []


def circumstances(*, of_model: bool = True) -> dict[str, Any]:
    """Machine, embedded model, commit and date: a figure without them means little.

    of_model: whether another embedded model would give other figures, so that they have to be measured again.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return {
        "machine": _processor(),
        **({"model": model_hash()} if of_model else {}),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "commit": git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "src") else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": os.getloadavg()[0],
    }


def model_hash() -> str:
    """The first 12 digits of a hash of what the embedded model runs on, without its scores and card."""
    checksums = json.loads(next(_BUNDLES.glob("*/checksums.json")).read_text(encoding="utf-8"))
    runs = {name: checksum for name, checksum in checksums.items() if name not in ("MODEL_CARD.md", "scores.json")}
    return hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).hexdigest()[:12]


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, and keep it for `write`."""
    _shown.append({"title": title, "columns": columns, "rows": rows})
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)


def write(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write the figures and the tables that were printed as JSON, if a path is given."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_rounded({**result, "tables": _shown}), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Each number with six digits: the rest is chance."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def verdict(holds: bool) -> str:
    return "met" if holds else "missed"


def _processor() -> str:
    """Its name, and its best instructions for 8-bit integers."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = told.get("flags", "").split()
    best = next((kind for kind in ("amx_int8", "avx512_vnni", "avx_vnni", "avx2") if kind in flags), "no AVX2")
    hidden = os.environ.get("LD_PRELOAD", "").endswith("avx2.so")
    kind = "AVX2, the rest hidden" if hidden else best.replace("_", "-").upper()
    return f"{told.get('model name', platform.processor())}, {kind}"
