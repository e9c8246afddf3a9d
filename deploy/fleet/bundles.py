"""Other models to deploy: copies of the embedded one."""

import hashlib
import json
import shutil
from pathlib import Path

from captionist.bundle import CHECKSUMS, CONFIG, ENCODER, Bundle


def of_version(version: str, folder: Path) -> Path:
    """The embedded model under another version, whole and with right checksums; where tasks may read it."""
    copy = folder / f"version-{version}"
    shutil.copytree(Bundle.open().path, copy)
    config = json.loads((copy / CONFIG).read_text(encoding="utf-8"))
    (copy / CONFIG).write_text(json.dumps(config | {"version": version}), encoding="utf-8")
    sums = json.loads((copy / CHECKSUMS).read_text(encoding="utf-8"))
    sums[CONFIG] = hashlib.sha256((copy / CONFIG).read_bytes()).hexdigest()
    (copy / CHECKSUMS).write_text(json.dumps(sums), encoding="utf-8")
    for path in (folder, copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copy


def damaged(version: str, folder: Path) -> Path:
    """The same, but its encoder was cut short on the way."""
    copy = of_version(version, folder)
    graph = (copy / ENCODER).read_bytes()
    (copy / ENCODER).write_bytes(graph[: len(graph) // 2])
    return copy
