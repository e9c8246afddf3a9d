"""Containers behind haproxy, as ECS has tasks behind a load balancer: one is killed, one replaced, and nothing is lost.

Needs root, haproxy, PostgreSQL and what deploy/container/build.sh lists; that builds the image first.
"""

import asyncio
import csv
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from harness.load import Client, client
from harness.postgres import Postgres
from harness.processes import HttpProcess, free_port
from tests.deploy.containers import ISOLATED, SETTINGS, built_image, podman, tool
from tests.load.ask import SECRET, comments, feedback
from tests.tools import wait_until

pytestmark = pytest.mark.load
CLIENTS = 8
# A request whose task dies before it answers is sent to another one, so haproxy must hold all of it: hence the large
# buffer. Sending it twice does no harm: a caption changes nothing, and feedback has its Idempotency-Key.
CONFIG = """
global
  tune.bufsize 1048576
defaults
  mode http
  timeout connect 1s
  timeout check 10s
  timeout client 60s
  timeout server 60s
  http-error status 503 content-type text/plain string "no task is ready" hdr Retry-After 1
listen captions
  bind 127.0.0.1:{port}
  stats uri /statistics
  balance leastconn
  retries 3
  retry-on conn-failure empty-response
  option redispatch 1
  option httpchk GET /health/ready
  default-server check inter 1s rise 1 fall 2 observe layer4 error-limit 1 on-error mark-down
"""


@pytest.fixture
def start(postgres: Postgres) -> Iterator[Callable[[int], HttpProcess]]:
    """Starts a container that listens on this port of loopback, its feedback in PostgreSQL; all are removed again."""
    image = built_image()
    common = {"HOST": "127.0.0.1", "DATABASE_URL": postgres.url, "SECRET": SECRET, "ENGINES": "1"}
    with ExitStack() as stack:

        def start(port: int) -> HttpProcess:
            settings = [f"--env=CAPTIONIST_{name}={value}" for name, value in (common | {"PORT": str(port)}).items()]
            options = (*ISOLATED, "--memory=1g", "--network=host", f"--name={_name(port)}", *settings)
            stack.callback(podman, "rm", "--force", "--volumes", "--time=0", _name(port), expect=None)
            command = [tool("podman"), "run", *options, image]
            return stack.enter_context(HttpProcess(command, port, "/health/ready", environment=SETTINGS))

        yield start


def _name(port: int) -> str:
    return f"captionist-task-{port}"


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[tuple[HttpProcess, list[int]]]:
    """A haproxy, and the four ports on which it looks for tasks."""
    port, *tasks = (free_port() for _ in range(5))
    servers = [f"  server {number} 127.0.0.1:{task}\n" for number, task in enumerate(tasks)]
    (tmp_path / "haproxy.cfg").write_text(CONFIG.format(port=port) + "".join(servers))
    with HttpProcess([tool("haproxy"), "-db", "-f", str(tmp_path / "haproxy.cfg")], port, "/statistics") as running:
        yield running, tasks


def test_one_is_killed_and_one_replaced_under_load_and_nothing_is_lost(
    start: Callable[[int], HttpProcess], balancer: tuple[HttpProcess, list[int]], caption: bytes
) -> None:
    haproxy, ports = balancer
    tasks, statuses, given, over = [start(port) for port in ports[:2]], list[int](), list[str](), threading.Event()

    async def send(connections: Client, request: bytes) -> None:
        """Send a request; if it is refused for lack of room, send it again when the refusal says."""
        while (answer := await connections.send(request)).status == 503:
            wait = int(answer.header("retry-after") or 0)
            assert wait >= 1
            await asyncio.sleep(wait)
        statuses.append(answer.status)

    async def visit(number: int) -> None:
        """A client: a caption, then feedback, over and over."""
        async with client(haproxy.port) as connections:
            for turn in count():
                if over.is_set():
                    return
                await send(connections, caption)
                given.append(f"{number}-{turn}")
                await send(connections, feedback(given[-1], key=given[-1]))

    def seen() -> list[dict[str, str]]:
        """What haproxy knows of each task."""
        rows = csv.DictReader(haproxy.get("/statistics;csv")[1].decode().removeprefix("# ").splitlines())
        return [row for row in rows if row["svname"].isdecimal()]

    def go_on(*up: int) -> None:
        """Let the clients get some more answers once haproxy sends requests only to these tasks."""
        wait_until(lambda: [int(task["svname"]) for task in seen() if task["status"] == "UP"] == [*up])
        enough = len(statuses) + 5 * CLIENTS
        wait_until(lambda: len(statuses) >= enough)

    def happen() -> None:
        go_on(0, 1)
        podman("kill", "--signal=KILL", _name(ports[0]))
        assert tasks[0].process.wait() == 137
        tasks.append(start(ports[2]))
        go_on(1, 2)
        tasks.append(start(ports[3]))
        go_on(1, 2, 3)
        assert tasks[1].terminate(60) == 0
        go_on(2, 3)
        over.set()

    async def run() -> None:
        await asyncio.gather(*map(visit, range(CLIENTS)), asyncio.to_thread(happen))

    asyncio.run(run())
    assert set(statuses) == {200, 201}
    assert int(seen()[0]["wredis"]) > 0  # it was killed with requests under way, which others answered
    assert all(int(task["hrsp_2xx"]) > 0 for task in seen())
    assert sorted(comments(tasks[-1].get("/v1/feedback/export")[1])) == sorted(given)
