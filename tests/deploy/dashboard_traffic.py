"""Traffic of every kind to two real tasks with different models, one of which crashes, watched by a real Prometheus."""

import asyncio
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captionist.bundle import CONFIG, Bundle, write_checksums
from harness.load import client, connected
from harness.pictures import EXAMPLES
from harness.processes import HttpProcess, Service, free_port
from harness.requests import multipart, post
from tests.deploy.containers import ROOT
from tests.deploy.dashboard_queries import result
from tests.tools import wait_until

_KEYS = {name: name * 4 for name in ("website", "limited", "operator")}
_ROUNDS = 3  # a few scrapes' worth of traffic, since a rate needs growth between them
_CROWD = 40  # requests at once, more than there is room for
_PICTURES = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))]


@dataclass
class Stage:
    """A Prometheus that has seen everything. begun, ended: UNIX seconds, by its clock; statuses: of all answers."""

    prometheus: HttpProcess
    begun: float = 0.0
    ended: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)


@contextmanager
def watched(folder: Path) -> Iterator[Stage]:
    """Let everything happen, then leave it running, to be queried. folder: for files."""
    targets = folder / "targets.json"
    with ExitStack() as stack:
        stage = Stage(stack.enter_context(_prometheus(folder, targets)))

        def up(*tasks: Service) -> None:
            """Tell Prometheus which tasks there are, as service discovery would, and wait until it has seen them."""
            draft = targets.with_suffix(".new")
            draft.write_text(json.dumps([{"targets": [f"127.0.0.1:{task.port}" for task in tasks]}]))
            draft.rename(targets)
            wait_until(lambda: _value(stage, "sum(up)") == len(tasks))

        first = stack.enter_context(_task(folder / "first"))
        up(first)
        stage.begun = _value(stage, "vector(time())")
        asyncio.run(_visits(stage, first))
        second = stack.enter_context(_task(folder / "second", model=str(_next_version(folder / "model"))))
        up(first, second)
        asyncio.run(_visits(stage, first, second))
        second.kill()
        wait_until(lambda: _value(stage, "sum(up)") == 1)
        second.start()
        second.wait_until_ready()
        up(first, second)
        asyncio.run(_visits(stage, first, second))
        stage.ended = _value(stage, "vector(time())")
        yield stage


def _prometheus(folder: Path, targets: Path) -> HttpProcess:
    config, port = folder / "prometheus.yml", free_port()
    scrape = {
        "job_name": "captionist",
        "authorization": {"credentials": _KEYS["operator"]},
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
    }
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy" / "prometheus" / "rules" / "*.yml")],
        "scrape_configs": [scrape],
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=warn"]
    return HttpProcess([*command, f"--web.listen-address=127.0.0.1:{port}"], port, "/-/ready")


def _value(stage: Stage, query: str) -> float:
    """What a query answers now."""
    return float(result(stage.prometheus, "query", query=f"scalar({query})")[1])


def _task(data: Path, **settings: Any) -> Service:
    data.mkdir()
    keys = [
        {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "admin": name == "operator"}
        | ({"rate": "1/minute"} if name == "limited" else {})
        for name, key in _KEYS.items()
    ]
    return Service(
        data_dir=data, api_keys=keys, secret="s" * 40, engines=1, max_queue=16, log_format="json", **settings
    )


def _next_version(copy: Path) -> Path:
    """The embedded model once more, as version 2."""
    shutil.copytree(Bundle.open().path, copy)
    config = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps(config | {"version": "2"}))
    write_checksums(copy)
    return copy


async def _visits(stage: Stage, *tasks: Service) -> None:
    """Some rounds of every kind of visitor, a second apart; then a crowd."""
    for _ in range(_ROUNDS):
        await asyncio.gather(*(_round(stage, task.port) for task in tasks), asyncio.sleep(1))
    async with client(tasks[-1].port) as connections:
        crowd = await asyncio.gather(*(connections.send(_captions(_PICTURES[0])) for _ in range(_CROWD)))
    stage.statuses.update(answer.status for answer in crowd)
    await asyncio.sleep(2)  # the scrape that sees them


async def _round(stage: Stage, port: int) -> None:
    async with connected(port) as leaving:
        leaving.write(_captions(_PICTURES[0]))
        await asyncio.sleep(0.01)
    async with client(port) as connections:

        async def send(request: bytes) -> bytes:
            answer = await connections.send(request)
            stage.statuses[answer.status] += 1
            return answer.body

        for place, picture in enumerate(_PICTURES):
            body = json.loads(await send(_captions(picture, num_captions=str(1 + place % 2))))
            await send(_feedback(body["pictures"][0]["id"], good=place % 3 > 0))
        for request in (
            _captions(_PICTURES[0][:9000]),
            _captions(b"no picture"),
            _captions(_PICTURES[0], key="stranger"),
            _captions(_PICTURES[0], key=_KEYS["limited"]),
            _captions(_PICTURES[0], key=_KEYS["limited"]),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /wp-login.php HTTP/1.1\r\nHost: localhost\r\n\r\n",
            _feedback("nobody-wrote-this", good=True),
        ):
            await send(request)


def _captions(picture: bytes, key: str = _KEYS["website"], **options: str) -> bytes:
    return post("/v1/captions", *multipart(options, picture), Authorization=f"Bearer {key}")


def _feedback(caption: str, good: bool) -> bytes:
    body = {"caption_id": caption, "rating": "good"}
    if not good:
        body |= {"rating": "bad", "correction": "A dog stands on the grass."}
    key = f"Bearer {_KEYS['website']}"
    return post("/v1/feedback", json.dumps(body).encode(), "application/json", Authorization=key)
