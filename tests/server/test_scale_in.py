"""Scale-in protection, with a small HTTP server in place of ECS's agent."""

import asyncio
import json
import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from captionist.errors import SettingsError
from captionist.server.aws import scale_in
from captionist.server.aws.scale_in import ScaleInProtection, agent_uri
from tests.server.serving import Running, StandIn
from tests.server.test_run import start
from tests.tools import wait_until

FAILURES = [
    (200, {"failure": {"Arn": "a", "Reason": "TASK_NOT_VALID"}}),
    (400, {"requestID": "1", "error": {"Code": "AccessDeniedException"}}),
    (500, None),
    (302, {"protection": {"ProtectionEnabled": True}}),
]


class Agent(StandIn):
    """Answers as ECS's agent does, or as it is told to, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.told: tuple[int, Any] | None = None
        self.hangs = threading.Event()
        super().__init__()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        assert (request.command, request.path) == ("PUT", "/api/task-1/task-protection/v1/state")
        self.asked.append(json.loads(body))
        if self.hangs.is_set():
            time.sleep(60)
        wanted = {"protection": {"ProtectionEnabled": self.asked[-1]["ProtectionEnabled"], "TaskArn": "arn"}}
        status, said = self.told or (200, wanted)
        return status, json.dumps(said).encode()

    @property
    def uri(self) -> str:
        return f"{self.url}/api/task-1"

    @property
    def wanted(self) -> list[bool]:
        return [asked["ProtectionEnabled"] for asked in self.asked]


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


class Work:
    """Stands in for the batcher: has as much work as it is told, and counts how often it was looked at."""

    def __init__(self) -> None:
        self.done = 0.0
        self.looks = 0

    def areas(self) -> tuple[float, float]:
        self.looks += 1
        return 0.0, self.done

    async def seen(self) -> None:
        """Wait until it has looked at the present state, and told the agent what there is to tell."""
        looks = self.looks
        await until(lambda: self.looks >= looks + 2)


class Clock:
    """Stands in for `time`: stands still until it is put on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(scale_in, "time", made)
    monkeypatch.setattr(scale_in, "_POLL", 0.001)
    return made


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_it_protects_while_there_is_work_and_not_before_or_long_after(clock: Clock, agent: Agent) -> None:
    async def run() -> None:
        work: Any = Work()
        task = asyncio.create_task(ScaleInProtection(work, agent.uri).run())
        await work.seen()
        assert agent.asked == []
        for _ in range(3):  # less idle than would give it up
            work.done += 1
            await work.seen()
            clock.now += scale_in._IDLE - 1
            await work.seen()
        assert agent.asked == [{"ProtectionEnabled": True, "ExpiresInMinutes": 5}]
        clock.now += 1
        await work.seen()
        assert agent.asked[1:] == [{"ProtectionEnabled": False}]
        clock.now += 60
        await work.seen()
        assert len(agent.asked) == 2
        await ended(task)
        assert len(agent.asked) == 2  # there was nothing to give up

    asyncio.run(run())


def test_it_renews_before_ecs_would_let_go(clock: Clock, agent: Agent) -> None:
    async def run() -> None:
        work: Any = Work()
        task = asyncio.create_task(ScaleInProtection(work, agent.uri).run())
        for _ in range(61):  # ten minutes of work, protected for five at a time
            work.done += 1
            await work.seen()
            clock.now += 10
        assert agent.wanted == [True] * 4  # after 160 seconds each
        await ended(task)
        assert agent.wanted == [True] * 4 + [False]

    asyncio.run(run())


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_a_failing_agent_is_told_of_once_and_asked_again(clock: Clock, agent: Agent, failure: tuple[int, Any]) -> None:
    async def run() -> list[Any]:
        work: Any = Work()
        agent.told = failure
        with capture_logs() as logs:
            task = asyncio.create_task(ScaleInProtection(work, agent.uri).run())
            for _ in range(4):
                work.done += 1
                await work.seen()
                clock.now += scale_in._RETRY
            assert agent.wanted == [True] * 4
            agent.told = None
            work.done += 1
            await work.seen()
            agent.told = failure
            for _ in range(3):
                clock.now += scale_in._IDLE
                await work.seen()
            assert agent.wanted[5:] == [False] * 3
            agent.told = None
            clock.now += scale_in._RETRY
            await work.seen()
            await ended(task)
        return [(line["log_level"], line.get("protected")) for line in logs]

    told = asyncio.run(run())
    assert told == [("warning", None), ("info", True), ("warning", None), ("info", False)]


@pytest.mark.usefixtures("clock")
def test_an_agent_that_hangs_or_is_not_there_holds_nothing_up(monkeypatch: pytest.MonkeyPatch, agent: Agent) -> None:
    async def run(uri: str) -> None:
        work: Any = Work()
        work.done = 1
        with capture_logs() as logs:
            protection = ScaleInProtection(work, uri)
            task = asyncio.create_task(protection.run())
            await until(lambda: logs)
            assert logs[0]["log_level"] == "warning"
            protection._expires = math.inf  # as if it had been protected: giving it up must not hang either
            async with asyncio.timeout(50):  # the agent hangs for 60
                await ended(task)

    monkeypatch.setattr(scale_in, "_PATIENCE", 0.3)
    agent.hangs.set()
    asyncio.run(run(agent.uri))
    asyncio.run(run("http://127.0.0.1:9"))


def test_outside_of_ecs_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for uri in ("", "169.254.170.2"):
        monkeypatch.setenv("ECS_AGENT_URI", uri)
        with pytest.raises(SettingsError, match="ECS_AGENT_URI"):
            agent_uri()
    refused = start(tmp_path, scale_in_protection="true")
    assert refused.returncode == 2
    assert "ECS_AGENT_URI" in refused.stderr


def test_a_real_service_protects_itself_and_gives_it_up_as_it_stops(tmp_path: Path, dog: bytes, agent: Agent) -> None:
    with Running(tmp_path, environment={"ECS_AGENT_URI": agent.uri}, scale_in_protection="true") as service:
        assert service.ask("/v1/captions", dog).status_code == 200
        wait_until(lambda: agent.asked)
        assert agent.wanted == [True]
        service.stop()
        assert agent.wanted == [True, False]
        assert [line["protected"] for line in service.lines if line["event"] == "scale-in protection"] == [True, False]
