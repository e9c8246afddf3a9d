"""Whether this commit can be released: `make release`. Needs no network and changes nothing.

`python -m deploy.release notes VERSION` prints what CHANGELOG.md says about a version.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import captionist
from captionist.bundle import Bundle, list_bundles
from captionist.errors import CaptionistError

ROOT = Path(__file__).parents[1]
DOCKERFILE = "deploy/container/Dockerfile"
# README's columns in an embedded model's row, as named in scores.json.
_SCORES = ("bleu_4", "meteor", "cider")


class ReleaseError(Exception):
    """A check failed; the message says what is wrong and what to do."""


def tree(root: Path) -> str:
    """What is released does not differ from what is committed."""
    if changed := _git(root, "status", "--porcelain"):
        raise ReleaseError(f"commit or remove what is not committed: {', '.join(line[3:] for line in changed)}")
    return f"clean at {_git(root, 'rev-parse', 'HEAD')[0][:12]}"


def versions(root: Path) -> str:
    """The version is the same everywhere, and has three numbers."""
    stated = _version(root)
    if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", stated):
        raise ReleaseError(f"pyproject.toml: version {stated} is not MAJOR.MINOR.PATCH (semver.org)")
    if (installed := captionist.__version__) != stated:
        raise ReleaseError(f"pyproject.toml says {stated}, captionist.__version__ {installed}: install it again")
    if f"\nARG VERSION={stated}\n" not in (root / DOCKERFILE).read_text(encoding="utf-8"):
        raise ReleaseError(f"pyproject.toml says {stated}, {DOCKERFILE} has not `ARG VERSION={stated}`")
    return f"{stated} in pyproject.toml, captionist.__version__ and {DOCKERFILE}"


def changelog(root: Path) -> str:
    """The newest section is this version's, and nothing is left for another."""
    stated = _version(root)
    found = _changes(root)
    if found.pop("[Unreleased]", ""):
        raise ReleaseError(f"CHANGELOG.md: move what is unreleased to a section `## [{stated}] - YYYY-MM-DD`")
    newest = next(iter(found), "")
    if not newest.startswith(f"[{stated}]"):
        raise ReleaseError(f"CHANGELOG.md: the newest section is not `## [{stated}] - YYYY-MM-DD`")
    notes(root, stated)
    return newest


def tag(root: Path) -> str:
    """The version's tag does not exist yet, or marks this very commit, which has no other version's tag."""
    name = f"v{_version(root)}"
    here = _git(root, "tag", "--points-at", "HEAD", "--list", "v*")
    if wrong := [other for other in here if other != name]:
        raise ReleaseError(f"this commit is tagged {', '.join(wrong)}, but its version is {_version(root)}")
    if name not in here and _git(root, "tag", "--list", name):
        raise ReleaseError(f"{name} marks another commit: a version is released once, so raise the version")
    return f"{name} {'marks this commit' if here else 'is still to be set'}"


def bundles(root: Path) -> str:
    """The embedded models are whole."""
    found = _bundles(root)
    files = sum(bundle.verify() for bundle in found)
    if empty := [bundle.config.name for bundle in found if not (bundle.model_card.strip() and bundle.scores)]:
        raise ReleaseError(f"{', '.join(empty)}: the model card or the scores are empty; export the model again")
    return f"{', '.join(bundle.config.name for bundle in found)}: {files} files match their checksums"


def readme(root: Path) -> str:
    """README states the embedded model's own scores on each dev corpus, with one digit after the point."""
    lines = (root / "README.md").read_text(encoding="utf-8").splitlines()
    for bundle in _bundles(root):
        corpora = {bundle.scores["corpus"]: bundle.scores, **bundle.scores.get("others", {})}
        for corpus, scores in corpora.items():
            row = next((line for line in lines if line.lower().startswith(f"| {corpus}, dev |")), None)
            if row is None:
                raise ReleaseError(f"README.md has no table with a row `| {corpus}, dev |`")
            for cell, metric in zip(row.split("|")[2:], _SCORES, strict=False):
                score = scores[metric]
                value = f"{score['value']:.1f}"
                interval = f"{value} ({score['low']:.1f} to {score['high']:.1f})"
                if cell.strip() not in (value, interval):
                    raise ReleaseError(f"README.md says {cell.strip()} for {metric}, scores.json says {interval}")
    return "its figures are those of scores.json"


def packages(root: Path) -> str:
    """Wheel and source archive build, satisfy PyPI, and hold what git tracks, byte by byte, and nothing else."""
    tracked = {name: (root / name).read_bytes() for name in _git(root, "ls-files")}
    modules = {name.removeprefix("src/"): held for name, held in tracked.items() if name.startswith("src/captionist/")}
    name = f"captionist-{_version(root)}"
    with tempfile.TemporaryDirectory() as folder:
        wheel, archive = Path(folder, f"{name}-py3-none-any.whl"), Path(folder, f"{name}.tar.gz")
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, str(root)]
        built = subprocess.run(command, capture_output=True, text=True)
        if not (wheel.exists() and archive.exists()):
            raise ReleaseError(f"{wheel.name} and {archive.name} do not build: {built.stdout}{built.stderr}")
        with zipfile.ZipFile(wheel) as zipped:
            held = {file: zipped.read(file) for file in zipped.namelist() if not file.startswith(f"{name}.dist-info/")}
        _compare(wheel, held, modules)
        with tarfile.open(archive) as tarred:
            files = {member.name.partition("/")[2]: tarred.extractfile(member) for member in tarred if member.isfile()}
            _compare(
                archive,
                {file: content.read() for file, content in files.items() if content and file != "PKG-INFO"},
                tracked,
            )
        for tool in (["twine", "check", "--strict", str(wheel), str(archive)], ["check_wheel_contents", str(wheel)]):
            checked = subprocess.run([sys.executable, "-m", *tool], capture_output=True, text=True)
            if checked.returncode:
                raise ReleaseError(f"{tool[0]} does not like {wheel.name}: {checked.stdout}{checked.stderr}")
        return f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB"


CHECKS: tuple[Callable[[Path], str], ...] = (tree, versions, changelog, tag, bundles, readme, packages)


def notes(root: Path, version: str) -> str:
    """What changed in a version, as Markdown. Raises ReleaseError if CHANGELOG.md does not say."""
    for heading, body in _changes(root).items():
        if re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", heading) and body:
            return body
    raise ReleaseError(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD` that lists changes")


def _changes(root: Path) -> dict[str, str]:
    """The sections of CHANGELOG.md by heading, newest first."""
    _, *parts = re.split(r"^## (.+)\n", (root / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: body.strip() for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def _version(root: Path) -> str:
    stated: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return stated


def _bundles(root: Path) -> list[Bundle]:
    found = list_bundles(root / "src" / "captionist" / "bundles")
    if not found:
        raise ReleaseError("the package holds no model")
    return found


def _compare(package: Path, held: dict[str, bytes], expected: dict[str, bytes]) -> None:
    if wrong := sorted(file for file in held.keys() | expected.keys() if held.get(file) != expected.get(file)):
        raise ReleaseError(
            f"{package.name} and git disagree on {', '.join(wrong)}: see [tool.hatch.build] in pyproject.toml, and "
            ".gitignore"
        )


def _git(root: Path, *arguments: str) -> list[str]:
    """The lines that a git command prints. Raises ReleaseError if it fails."""
    ended = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if ended.returncode:
        raise ReleaseError(f"git {arguments[0]} failed: {ended.stderr.strip()}")
    return ended.stdout.splitlines()


def main(arguments: list[str]) -> int:
    """Run every check, even after one has failed, a line each; or print notes. Returns the exit code."""
    if arguments[:1] == ["notes"] and len(arguments) == 2:
        try:
            sys.stdout.write(notes(ROOT, arguments[1]) + "\n")
        except ReleaseError as error:
            sys.exit(str(error))
        return 0
    if arguments:
        sys.stderr.write("usage: python -m deploy.release [notes VERSION]\n")
        return 2
    code = 0
    for check in CHECKS:
        try:
            line = f"ok    {check.__name__}: {check(ROOT)}"
        except (ReleaseError, CaptionistError) as error:
            code = 1
            line = f"FAIL  {check.__name__}: {error}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
