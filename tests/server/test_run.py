"""`captionist serve` as a process: how it starts, what it logs, how it stops."""

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from captionist import Captioner
from tests.server.conftest import KEY, KEYS
from tests.server.serving import PATIENCE, Running
from tests.tools import wait_until

PYTHON = [sys.executable, "-m", "captionist.cli"]


def described(service: Running, picture: bytes, key: str = "any") -> Any:
    answer = service.ask("/v1/captions?explain=1", picture, Authorization=f"Bearer {key}")
    return answer.raise_for_status().json()


def start(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """For what should not start."""
    environment = {f"CAPTIONIST_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [*PYTHON, "serve", *arguments],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops_with_success(tmp_path: Path, dog: bytes, number: int) -> None:
    with Running(tmp_path) as service:
        answer = described(service, dog)
        assert answer["pictures"][0]["captions"][0]["text"]
        service.stop(number)
        assert service.errors.read_text() == ""
        assert service.lines[-1]["event"] == "stopped"


def test_every_request_is_a_line_that_holds_no_key_and_no_picture(tmp_path: Path, dog: bytes) -> None:
    keys = json.dumps([key.model_dump(exclude_none=True) for key in KEYS])
    with Running(tmp_path, api_keys=keys) as service:
        described(service, dog, KEY)
        assert service.ask("/v1/captions", dog, Authorization="Bearer wrong-key").status_code == 401
        service.stop()
        requests = [line for line in service.lines if line.get("event") == "request"]
        assert [(line["status"], line["client"], line["problem"]) for line in requests] == [
            (200, "site", None),
            (401, None, "unauthorized"),
        ]
        assert all(len(line["request_id"]) == 32 and line["bytes_in"] == len(dog) for line in requests)
        assert not {KEY, "wrong-key"} & set(json.dumps(service.lines).split('"'))


def test_what_was_accepted_is_finished_before_it_stops(tmp_path: Path, dog: bytes) -> None:
    with Running(tmp_path, deadline=PATIENCE) as service, ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(service.ask, "/v1/captions", dog) for _ in range(12)]
        count = "captionist_http_requests_in_flight 13.0"  # the twelve, and the one that asks for this
        wait_until(lambda: count in service.ask("/metrics").text or any(one.done() for one in asked))
        service.stop()
        assert [one.result().status_code for one in asked] == [200] * 12


def test_limits_are_set_on_the_command_line(tmp_path: Path) -> None:
    with Running(tmp_path, "--max-bytes", "30000000", "--max-pixels", "90000000") as service:
        limits = service.ask("/v1/models").json()["limits"]
        assert (limits["max_picture_bytes"], limits["max_picture_pixels"]) == (30_000_000, 90_000_000)


def test_the_model_of_another_bundle_is_served(tmp_path: Path, dog: bytes) -> None:
    path = str(Captioner().bundle.path)
    with Running(tmp_path, model=path) as service:
        assert described(service, dog)["model"]["name"] == "captionist-small"


@pytest.mark.parametrize(
    ("arguments", "settings", "said", "code"),
    [
        (("--host", "0.0.0.0"), {}, "CAPTIONIST_API_KEYS", 2),
        (("--port", "99999"), {}, "CAPTIONIST_PORT", 2),
        ((), {"model": "no-such-model"}, "no-such-model", 1),
        ((), {"data_dir": "/proc/nowhere"}, "CAPTIONIST_DATA_DIR", 2),
        ((), {"database_url": "mysql://captionist@127.0.0.1:1/none"}, "CAPTIONIST_DATABASE_URL", 2),
        ((), {"prot": "8000"}, "CAPTIONIST_PROT: no such setting", 2),
    ],
)
def test_what_keeps_it_from_starting_is_told_in_a_line(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], said: str, code: int
) -> None:
    ended = start(tmp_path, *arguments, **settings)
    assert ended.returncode == code
    assert said in ended.stderr
    assert ended.stderr.startswith("captionist: ")
    assert "Traceback" not in ended.stderr


def test_a_database_that_is_down_costs_only_feedback(tmp_path: Path, dog: bytes) -> None:
    with Running(tmp_path, database_url="postgres://captionist:hidden@127.0.0.1:1/none") as service:
        (line,) = (line for line in service.lines if line.get("event") == "feedback cannot be stored")
        assert "refused" in line["reason"]
        assert "hidden" not in str(line)
        caption = described(service, dog)["pictures"][0]
        sent = json.dumps({"caption_id": caption["id"], "rating": "good"}).encode()
        refused = service.ask("/v1/feedback", sent, **{"Content-Type": "application/json"})
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:captionist:problem:store-unavailable")
        assert service.ask("/health/ready").status_code == 200


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = start(tmp_path, "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 2
    assert "--port" in ended.stderr
