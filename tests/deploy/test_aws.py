"""The Terraform of deploy/aws, checked without a cloud: well written, and refusing what is wrong.

Tests marked `deploy` need terraform and a copy of its AWS provider, and pip, to install checkov and moto. Without them,
these tests are skipped; in CI they fail.
"""

import json
import re
from pathlib import Path

import pytest

from tests.deploy.aws_tools import AWS, ROOT, Terraform, cloud, run, tool

GUIDE = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
SOURCES = {
    path: path.read_text(encoding="utf-8") for path in sorted(AWS.rglob("*.tf")) if ".terraform" not in path.parts
}
VARIABLES = [
    variable
    for path in sorted(AWS.glob("variables*.tf"))
    for variable in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', SOURCES[path], re.MULTILINE | re.DOTALL)
]


@pytest.mark.deploy
def test_it_is_formatted(tmp_path: Path) -> None:
    Terraform(tmp_path)("fmt", "-check", "-recursive", "-diff")


@pytest.mark.deploy
@pytest.mark.parametrize("module", [".", "registry"])
def test_it_is_valid_and_its_own_tests_pass(tmp_path: Path, module: str) -> None:
    """deploy/aws/tests: each variable's wrong values are refused, and each option makes what it should."""
    with cloud() as moto:
        terraform = Terraform(tmp_path, module, AWS_ENDPOINT_URL=moto.address)
        checked = json.loads(terraform("validate", "-json").stdout)
        assert (checked["valid"], checked["diagnostics"]) == (True, [])
        passed = re.search(r"Success! (\d+) passed, 0 failed", terraform("test").stdout)
        assert passed
        assert int(passed[1]) >= 4


@pytest.mark.deploy
def test_checkov_finds_nothing_that_is_not_justified() -> None:
    found = run(
        tool("checkov").with_name("checkov"), "--directory", AWS, "--framework", "terraform", "--skip-download",
        "--quiet", "--compact", "--output", "json", cwd=ROOT,
    )  # fmt: skip
    assert json.loads(found.stdout)["summary"]["passed"] > 150


def test_every_exception_from_checkov_has_a_reason() -> None:
    skips = re.findall(r".*checkov.*skip=.*", "".join(SOURCES.values()))
    assert skips
    assert all(re.fullmatch(r"\s+#checkov:skip=CKV2?_AWS_\d+:\S.{12,}", skip) for skip in skips)


@pytest.mark.parametrize(("name", "body"), VARIABLES, ids=[name for name, _ in VARIABLES])
def test_every_variable_has_a_type_and_a_description_and_is_tested(name: str, body: str) -> None:
    kind = re.search(r"^  type += (\S+)", body, re.MULTILINE)
    assert kind
    assert re.search(r'^  description += "\S.{9,}"$', body, re.MULTILINE)
    tests = "".join(path.read_text(encoding="utf-8") for path in (AWS / "tests").glob("*.tftest.hcl"))
    free = {"tags", "signing_secret_version", "database_password_version"}  # any value will do
    free |= {"cpu_architecture", "log_retention_days", "waf_rate"}  # the provider knows which will
    if kind[1] != "bool" and name not in free:
        assert "validation {" in body
        assert f"var.{name}," in tests  # among expect_failures
    if kind[1] == "bool":
        assert re.search(rf"^    {name} += (true|false)$", tests, re.MULTILINE)


def test_the_guide_names_what_there_is() -> None:
    outputs = re.findall(r'^output "(\w+)"', SOURCES[AWS / "outputs.tf"], re.MULTILINE)
    for name in re.findall(r"terraform (?:-chdir=\S+ )?output(?: -raw| -json)? (\w+)", GUIDE):
        assert name in [*outputs, "repositories"]
    known = {name for name, _ in VARIABLES}
    example = re.search(r"```hcl\n(.*?)```", GUIDE, re.DOTALL)
    assert example
    assert set(re.findall(r"^(\w+) +=", example[1], re.MULTILINE)) <= known
    rows = re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE)
    assert rows
    assert set(rows) <= known


def test_alarms_lead_to_the_runbook() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    links = re.findall(r"docs/operations\.md#(\w+)", SOURCES[AWS / "alarms.tf"])
    assert len(links) > 5
    assert set(links) <= {heading.lower() for heading in headings}
