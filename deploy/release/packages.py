"""The wheel and the source archive: built from the tree in a folder of their own, and looked into."""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from fnmatch import filter as matching
from pathlib import Path

from deploy.release.errors import ReleaseError
from deploy.release.repository import git, version

# What the wheel cannot do without, should git have lost it; everything else that git tracks must be in it too.
_NEEDED = ("py.typed", "bundles/*/weights.bin", "server/page/index.html", "server/store/migrations/versions/*.py")
_METADATA = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")


def check(root: Path) -> str:
    """Build both and compare them with what git tracks, byte by byte; returns the wheel's name and size.

    Writes nothing to the tree. Raises ReleaseError.
    """
    tracked = {name: (root / name).read_bytes() for name in git(root, "ls-files")}
    modules = {name.removeprefix("src/"): held for name, held in tracked.items() if name.startswith("src/captionist/")}
    for pattern in _NEEDED:
        if not matching(modules, f"captionist/{pattern}"):
            raise ReleaseError(f"there is no src/captionist/{pattern}")
    with tempfile.TemporaryDirectory() as folder:
        wheel, archive = _build(root, Path(folder))
        metadata = {f"captionist-{version(root)}.dist-info/{name}": None for name in _METADATA}
        _compare(wheel.name, _unzipped(wheel), modules | metadata)
        _compare(archive.name, _untarred(archive), tracked | {"PKG-INFO": None})
        return f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB"


def _build(root: Path, folder: Path) -> tuple[Path, Path]:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(root)]
    built = subprocess.run(command, capture_output=True, text=True)
    name = f"captionist-{version(root)}"
    wheel, archive = folder / f"{name}-py3-none-any.whl", folder / f"{name}.tar.gz"
    if not (wheel.exists() and archive.exists()):
        raise ReleaseError(f"{wheel.name} and {archive.name} do not build: {built.stdout}{built.stderr}")
    return wheel, archive


def _unzipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _untarred(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in files.items() if file}


def _compare(name: str, held: dict[str, bytes], expected: dict[str, bytes | None]) -> None:
    """Expected contents by file name; None stands for a file that the build wrote."""
    faults = [f"lacks {file}" for file in sorted(expected.keys() - held.keys())]
    faults += [f"holds {file}, which is not the project's" for file in sorted(held.keys() - expected.keys())]
    for file in sorted(held.keys() & expected.keys()):
        if expected[file] not in (None, held[file]):
            faults.append(f"holds another {file} than the tree")
    if faults:
        raise ReleaseError(f"{name} {'; '.join(faults)}: see [tool.hatch.build] in pyproject.toml, and .gitignore")
