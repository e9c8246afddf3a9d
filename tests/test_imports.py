"""Who may import whom: the rules, checked against the source and a running interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "captionist"

# What modules of each part may import from the package itself, at the top or inside functions. A part is a module or a
# package directly below captionist.
ALLOWED = {
    "alt": {"errors", "files", "paths"},
    "__init__": {"bundle", "captioner", "captions", "errors", "images", "index", "options"},
    "errors": set(),
    "files": {"errors"},
    "ownfiles": set(),
    "paths": set(),
    "system": set(),
    "formats": {"errors"},
    "jpeg": {"errors", "formats"},
    "decoding": {"errors", "formats", "jpeg"},
    "images": {"decoding", "errors", "formats"},
    "index": {"errors", "files", "ownfiles"},
    "faults": set(),
    "options": {"faults"},
    "bundle": {"errors", "faults", "options", "paths"},
    "inference": {"bundle", "errors", "options", "system"},
    "captions": {"errors", "images", "notebook"},
    "notebook": {"captions", "images"},
    "fetch": {"errors"},
    "wording": {"bundle", "captions", "inference"},
    "captioner": {"bundle", "captions", "errors", "fetch", "images", "inference", "options", "wording"},
    "explain": {"captions", "errors", "files", "images", "ownfiles"},
    "several": {"decoding", "errors", "formats", "jpeg"},
    "sidecars": {"errors", "files", "paths", "sources", "xmp"},
    "sources": {"errors", "ownfiles", "paths"},
    "xmp": set(),
    "collection": {"captioner", "captions", "errors", "images", "inference", "options", "ownfiles", "paths", "sources"},
    "data": {"errors", "images", "paths"},
    "evaluation": {"bundle", "captioner", "captions", "data", "errors", "faults", "images", "inference"},
    "model": {"bundle", "errors", "images", "inference"},
    "training": {"bundle", "data", "errors", "evaluation", "faults", "images", "inference", "model", "options", "paths"}
    | {"system"},
    # Here the trained model meets everything that makes and checks a bundle.
    "exporting": {"bundle", "captioner", "data", "errors", "evaluation", "images", "inference", "model", "options"}
    | {"paths", "training"},
    "server": {"bundle", "captioner", "captions", "errors", "faults", "fetch", "images", "inference", "options"}
    | {"system"},
    "cli": {"commands", "errors"},
}

# Only the extra `serve` installs these.
SERVING_ONLY = {"fastapi", "uvicorn", "starlette", "sqlalchemy", "alembic", "prometheus_client", "structlog", "limits"}
SERVING_ONLY |= {"opentelemetry"}  # its SDK belongs to the extra `otel`

# Only the extra `train` installs these.
TRAINING_ONLY = {"torch", "transformers", "accelerate", "safetensors", "huggingface_hub", "nltk", "pycocoevalcap"}
TRAINING_ONLY |= {"matplotlib", "onnx", "yaml"}

# Only the extras `parquet` and `ray` install these.
COLLECTIONS_ONLY = {"filelock", "pyarrow", "ray"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts(path: Path) -> set[str]:
    """The parts of captionist that a file imports."""
    inside = (name.split(".") for name in imports(path) if name.startswith("captionist."))
    names = {p.stem for p in SOURCE.glob("*.py")} | {p.name for p in SOURCE.iterdir() if p.is_dir()}
    return {name[1] for name in inside if name[1] in names}


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    name = path.relative_to(SOURCE).as_posix()
    part = name.split("/")[0].removesuffix(".py")
    if part == "commands":  # the commands are where everything is put together
        return
    assert parts(path) <= ALLOWED[part] | {part}


@pytest.mark.parametrize(("library", "door"), [("opentelemetry", "server/tracing.py"), ("ray", "collection/on_ray.py")])
def test_what_an_extra_brings_has_one_door(library: str, door: str) -> None:
    """Everything else must work without the extra."""
    needing = [path for path in FILES if library in {name.split(".")[0] for name in imports(path)}]
    assert needing == [SOURCE / door]


def test_the_service_knows_aws_by_one_door_alone() -> None:
    door = SOURCE / "server" / "aws"
    behind = {f"captionist.server.aws.{path.stem}" for path in door.glob("*.py") if path.stem != "__init__"}
    assert behind
    assert not [path for path in FILES if path.parent != door and behind & imports(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_what_not_every_system_has_is_behind_one_door(path: Path) -> None:
    """Modules that Windows lacks, and what of `os` it or macOS lacks."""
    lacking = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "ctypes"}
    asked = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    lacked = {"posix_fallocate", "posix_fadvise", "sched_getaffinity", "sendfile", "memfd_create", "fork", "mkfifo"}
    lacked |= {"geteuid", "getuid", "fchmod", "fchown", "chown", "uname", "getloadavg", "preadv", "pwritev"}
    if path != SOURCE / "system.py":
        assert not (lacking & imports(path)) | (lacked & asked)


@pytest.mark.parametrize("path", sorted((ROOT / "harness").glob("*.py")), ids=lambda path: path.name)
def test_the_harness_is_below_all_who_share_it(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"tests", "benchmarks", "deploy", "captionist"}


def test_scores_need_no_torch() -> None:
    needing = {path.name for path in (SOURCE / "evaluation").glob("*.py") if {"torch", "transformers"} & imports(path)}
    assert needing == {"clip.py", "ranking.py"}


@pytest.mark.parametrize(
    "module", ["captionist", "captionist.captioner", "captionist.cli", "captionist.inference.search"]
)
def test_captioning_loads_nothing_of_an_extra(module: str) -> None:
    script = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not (TRAINING_ONLY | SERVING_ONLY | COLLECTIONS_ONLY) & set(loaded)
