"""What must hold before a version is released. Each check returns what it found, or raises what stands in the way."""

from collections.abc import Callable
from pathlib import Path

import captionist
from captionist.bundle import Bundle, list_bundles
from deploy.release import figures, packages
from deploy.release.errors import ReleaseError
from deploy.release.repository import DOCKERFILE, changes, git, image_version, notes, version


def tree(root: Path) -> str:
    """Nothing that is released may differ from what is committed."""
    if changed := git(root, "status", "--porcelain"):
        raise ReleaseError(f"commit or remove what is not committed: {', '.join(line[3:] for line in changed)}")
    return f"clean at {git(root, 'rev-parse', 'HEAD')[0][:12]}"


def versions(root: Path) -> str:
    stated = version(root)
    if (installed := captionist.__version__) != stated:
        raise ReleaseError(f"pyproject.toml says {stated}, captionist.__version__ {installed}: install it again")
    if image_version(root) != stated:
        raise ReleaseError(f"pyproject.toml says {stated}, {DOCKERFILE} has not `ARG VERSION={stated}`")
    return f"{stated} in pyproject.toml, captionist.__version__ and {DOCKERFILE}"


def changelog(root: Path) -> str:
    stated = version(root)
    found = changes(root)
    if found.pop("[Unreleased]", ""):
        raise ReleaseError(f"CHANGELOG.md: move what is unreleased to a section `## [{stated}] - YYYY-MM-DD`")
    newest = next(iter(found), "")
    if not newest.startswith(f"[{stated}]"):
        raise ReleaseError(f"CHANGELOG.md: the newest section is not `## [{stated}] - YYYY-MM-DD`")
    notes(root, stated)
    return newest


def tag(root: Path) -> str:
    """The version's tag is still to come, or marks this very commit, which has no other version's."""
    name = f"v{version(root)}"
    here = git(root, "tag", "--points-at", "HEAD", "--list", "v*")
    if wrong := [other for other in here if other != name]:
        raise ReleaseError(f"this commit is tagged {', '.join(wrong)}, but its version is {version(root)}")
    if name not in here and git(root, "tag", "--list", name):
        raise ReleaseError(f"{name} marks another commit: a version is released once, so raise the version")
    return f"{name} {'marks this commit' if here else 'is still to be set'}"


def bundles(root: Path) -> str:
    found = _bundles(root)
    files = sum(bundle.verify() for bundle in found)
    if empty := [bundle.config.name for bundle in found if not (bundle.model_card.strip() and bundle.scores)]:
        raise ReleaseError(f"{', '.join(empty)}: the model card or the scores are empty; export the model again")
    return f"{', '.join(bundle.config.name for bundle in found)}: {files} files match their checksums"


def readme(root: Path) -> str:
    text = (root / "README.md").read_text(encoding="utf-8")
    return f"{sum(figures.compare(text, bundle) for bundle in _bundles(root))} figures are those of scores.json"


def _bundles(root: Path) -> list[Bundle]:
    found = list_bundles(root / "src" / "captionist" / "bundles")
    if not found:
        raise ReleaseError("the package holds no model")
    return found


CHECKS: dict[str, Callable[[Path], str]] = {
    "tree": tree,
    "version": versions,
    "changelog": changelog,
    "tag": tag,
    "bundles": bundles,
    "readme": readme,
    "packages": packages.check,
}
