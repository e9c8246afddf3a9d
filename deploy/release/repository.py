"""What git and the project's own files say."""

import re
import subprocess
import tomllib
from pathlib import Path

from deploy.release.errors import ReleaseError

DOCKERFILE = "deploy/container/Dockerfile"
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def git(root: Path, *arguments: str) -> list[str]:
    """The lines that a git command prints. Raises ReleaseError where it fails."""
    ended = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if ended.returncode:
        raise ReleaseError(f"git {arguments[0]} failed: {ended.stderr.strip()}")
    return ended.stdout.splitlines()


def version(root: Path) -> str:
    """The version in pyproject.toml. Raises ReleaseError if it is not three numbers, as a released one is."""
    stated: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if not _VERSION.fullmatch(stated):
        raise ReleaseError(f"pyproject.toml: version {stated} is not MAJOR.MINOR.PATCH (semver.org)")
    return stated


def image_version(root: Path) -> str | None:
    """The version with which the Dockerfile labels the image."""
    match = re.search(r"^ARG VERSION=(.+)$", (root / DOCKERFILE).read_text(encoding="utf-8"), re.MULTILINE)
    return match and match[1]


def changes(root: Path) -> dict[str, str]:
    """The sections of CHANGELOG.md by heading, newest first."""
    _, *parts = re.split(r"^## (.+)\n", (root / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: body.strip() for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def notes(root: Path, version: str) -> str:
    """What changed in a version, as Markdown. Raises ReleaseError where CHANGELOG.md does not say."""
    for heading, body in changes(root).items():
        if re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", heading) and body:
            return body
    raise ReleaseError(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD` that lists changes")
