"""Terraform, and tools in their own environments, since their dependencies clash with each other's and with ours."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tools import missing

ROOT = Path(__file__).parents[2]
AWS = ROOT / "deploy" / "aws"
PINNED = {"checkov": "checkov==3.3.30", "moto": "moto[server]==5.2.5"}
REGION = "us-east-1"
# All that Terraform and boto3 may find of a cloud: what the tests give them.
FAKE = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "2",
    "AWS_REGION": REGION,
    "AWS_S3_USE_PATH_STYLE": "1",
    "CHECKPOINT_DISABLE": "1",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
    "TF_CLI_CONFIG_FILE": os.devnull,
    "TF_IN_AUTOMATION": "1",
}


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without anything of a real cloud."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    return {**ours, **FAKE, **more}


def run(*command: object, cwd: Path, expect: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command. Fails with all its output unless it ends as expected."""
    ended = subprocess.run([*map(str, command)], cwd=cwd, env=environment(**more), capture_output=True, text=True)
    assert expect is None or ended.returncode == expect, ended.stdout + ended.stderr
    return ended


def tool(name: str) -> Path:
    """The Python of an environment with only a tool and its requirements; made on first use."""
    folder = ROOT / ".venv" / "tools" / name
    made = folder / "pinned.txt"
    python = folder / "bin" / "python"
    if not made.is_file() or made.read_text(encoding="utf-8") != PINNED[name]:
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder, cwd=ROOT)
        installed = run(python, "-m", "pip", "install", "--quiet", PINNED[name], cwd=ROOT, expect=None)
        if installed.returncode != 0:
            missing(f"{PINNED[name]} (pip install: {installed.stderr.strip()[-200:]})")
        made.write_text(PINNED[name], encoding="utf-8")
    return python


class Terraform:
    """A copy of a configuration, initialised, so that no state and no provider lands in the tree."""

    def __init__(self, work: Path, module: str = ".", **environment: str) -> None:
        """work: an empty folder. module: of deploy/aws."""
        if shutil.which("terraform") is None:
            missing("terraform")
        self._environment = environment
        shutil.copytree(AWS, work / "aws", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars"))
        shutil.copytree(AWS.parent / "prometheus" / "rules", work / "prometheus" / "rules")
        self._folder = work / "aws" / module
        plugins = run(Path(__file__).with_name("aws_plugins.sh"), cwd=ROOT).stdout.strip()
        options = [f"-plugin-dir={plugins}"] if plugins else []
        if self("init", "-input=false", *options, expect=None).returncode != 0:
            missing("Terraform's AWS provider")

    def __call__(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        return run("terraform", command, "-no-color", *rest, cwd=self._folder, expect=expect, **self._environment)

    def apply(self, **variables: Any) -> None:
        """Apply, with these variables from now on."""
        (self._folder / "terraform.tfvars.json").write_text(json.dumps(variables), encoding="utf-8")
        self("apply", "-auto-approve", "-input=false", "-parallelism=30")

    def planned(self, **variables: Any) -> dict[str, dict[str, Any]]:
        """What a plan would change: by address, {actions, before, after}."""
        (self._folder / "terraform.tfvars.json").write_text(json.dumps(variables), encoding="utf-8")
        self("plan", "-input=false", "-out=planned")
        changes = json.loads(self("show", "-json", "planned").stdout)["resource_changes"]
        return {change["address"]: change["change"] for change in changes if change["change"]["actions"] != ["no-op"]}

    @property
    def state(self) -> str:
        """Everything in Terraform's state."""
        return (self._folder / "terraform.tfstate").read_text(encoding="utf-8")


class Cloud:
    """moto's server, and what it keeps."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin
        assert process.stdout
        self._questions, self._answers = process.stdin, process.stdout
        self.address = self._answers.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), "moto did not start"

    def ask(self, service: str, operation: str, **parameters: Any) -> Any:
        """boto3's answer, all pages of it; {"Error": ...} if it refuses."""
        question = {"service": service, "operation": operation, "parameters": parameters}
        self._questions.write(json.dumps(question) + "\n")
        self._questions.flush()
        return json.loads(self._answers.readline())


@contextmanager
def cloud() -> Iterator[Cloud]:
    """An empty cloud on loopback."""
    program = Path(__file__).with_name("aws_moto.py")
    with subprocess.Popen(
        [tool("moto"), program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment(),
    ) as process:  # fmt: skip
        try:
            yield Cloud(process)
        finally:
            process.kill()
