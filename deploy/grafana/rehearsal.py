"""A day of the service in a minute: real tasks, a real Prometheus, traffic of every kind, a scaling and a crash.

For the dashboards' test and their pictures. All of it is on loopback; the tasks run `captionist serve` as it is.
"""

import asyncio
import hashlib
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2

from captionist.bundle import CHECKSUMS, CONFIG, Bundle
from harness.load import Client, client, connected
from harness.pictures import EXAMPLES
from harness.processes import HttpProcess, Service, free_port
from harness.requests import multipart, post

RULES = Path(__file__).parents[1] / "prometheus" / "rules"
_KEYS = {"website": "a" * 40, "limited": "b" * 40, "operator": "c" * 40}
_RATE = 2.0  # requests a second to each task; they share the machine with others
_CROWD = 40  # requests at once, more than CAPTIONIST_MAX_QUEUE here
_QUEUE = 16
_KINDS = {
    "caption": 24, "broken": 2, "no picture": 1, "stranger": 2, "often": 2, "leaves": 1, "page": 1, "lost": 1,
    "unknown caption": 1,
}  # fmt: skip
"""Every so many visitors, this many of each kind."""


@dataclass
class Stage:
    """What has run, and since when: UNIX seconds."""

    prometheus: HttpProcess
    begun: float = 0.0
    ended: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)


@contextmanager
def rehearsed(folder: Path, seconds: float) -> Iterator[Stage]:
    """Let traffic run for so many seconds, then leave everything running to be asked. folder: for what is written."""
    targets = folder / "targets.json"
    targets.write_text("[]")
    with ExitStack() as stack:
        stage = Stage(stack.enter_context(_prometheus(folder, targets)))
        first = stack.enter_context(_task(folder))
        stage.begun = time.time()
        _announce(targets, first)
        asyncio.run(_play(folder, targets, first, seconds, stage, stack))
        stage.ended = time.time()
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
        "rule_files": [str(RULES / "*.yml")],
        "scrape_configs": [scrape],
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=warn"]
    return HttpProcess([*command, f"--web.listen-address=127.0.0.1:{port}"], port, "/-/ready")


def _task(folder: Path, **settings: Any) -> Service:
    keys = [
        {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "admin": name == "operator"}
        | ({"rate": "1/minute"} if name == "limited" else {})
        for name, key in _KEYS.items()
    ]
    common: dict[str, Any] = {
        "api_keys": keys,
        "secret": "s" * 40,
        "engines": 1,
        "max_queue": _QUEUE,
        "log_format": "json",
    }
    data = folder / f"data-{len(list(folder.glob('data-*')))}"
    data.mkdir()
    return Service(data_dir=data, **common, **settings)


def _next_version(folder: Path) -> Path:
    """The embedded model once more, as version 2."""
    copy = folder / "model"
    shutil.copytree(Bundle.open().path, copy)
    config = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps(config | {"version": "2"}))
    sums = json.loads((copy / CHECKSUMS).read_text())
    sums[CONFIG] = hashlib.sha256((copy / CONFIG).read_bytes()).hexdigest()
    (copy / CHECKSUMS).write_text(json.dumps(sums))
    return copy


def _announce(targets: Path, *tasks: Service) -> None:
    """Tell Prometheus which tasks there are, as service discovery would."""
    draft = targets.with_suffix(".new")
    draft.write_text(json.dumps([{"targets": [f"127.0.0.1:{task.port}" for task in tasks]}]))
    draft.rename(targets)


async def _play(folder: Path, targets: Path, first: Service, seconds: float, stage: Stage, stack: ExitStack) -> None:
    """One task, then a crowd; a second task with the next model; that one's crash and return, and a crowd again."""
    pictures, over = _pictures(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_visits(first.port, pictures, over, stage))
        await asyncio.sleep(0.2 * seconds)
        group.create_task(_crowd(first.port, pictures, stage))
        second = stack.enter_context(await asyncio.to_thread(_task, folder, model=str(_next_version(folder))))
        _announce(targets, first, second)
        group.create_task(_visits(second.port, pictures, over, stage))
        await asyncio.sleep(0.4 * seconds)
        await asyncio.to_thread(second.kill)
        await asyncio.sleep(2.5)  # a scrape or two
        second.start()
        await asyncio.to_thread(second.wait_until_ready)
        await asyncio.sleep(0.2 * seconds)
        await _crowd(second.port, pictures, stage)
        await asyncio.sleep(0.2 * seconds)
        over.set()


async def _visits(port: int, pictures: Sequence[bytes], over: asyncio.Event, stage: Stage) -> None:
    """Visitors that come at random, each on its own."""
    chance = random.Random(0)
    kinds: list[str] = []
    async with client(port) as connections, asyncio.TaskGroup() as group:
        while not over.is_set():
            kinds = kinds or chance.sample(list(_KINDS), sum(_KINDS.values()), counts=_KINDS.values())
            group.create_task(_visit(kinds.pop(), connections, port, chance.choice(pictures), chance, stage))
            await asyncio.sleep(chance.expovariate(_RATE))


async def _crowd(port: int, pictures: Sequence[bytes], stage: Stage) -> None:
    async with client(port) as connections:
        requests = [_captions(picture) for picture in islice(cycle(pictures), _CROWD)]
        for answer in await asyncio.gather(*map(connections.send, requests)):
            stage.statuses[answer.status] += 1


async def _visit(
    kind: str, connections: Client, port: int, picture: bytes, chance: random.Random, stage: Stage
) -> None:
    if kind == "leaves":
        with suppress(OSError):  # the task may be down
            async with connected(port) as connection:
                connection.write(_captions(picture))
                await asyncio.sleep(0.01)
        return
    if kind == "caption":
        answer = await connections.send(_captions(picture, num_captions=str(chance.choice((1, 1, 1, 2)))))
        if answer.status == 200 and chance.random() < 0.6:
            caption = json.loads(answer.body)["pictures"][0]["id"]
            stage.statuses[(await connections.send(_feedback(caption, chance))).status] += 1
    else:
        answer = await connections.send(
            {
                "broken": _captions(picture[: len(picture) // 3]),
                "no picture": _captions(b"not a picture"),
                "stranger": _captions(picture, key="d" * 40),
                "often": _captions(picture, key=_KEYS["limited"]),
                "page": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "lost": b"GET /wp-login.php HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "unknown caption": _feedback("nobody-wrote-this", chance),
            }[kind]
        )
    stage.statuses[answer.status] += 1


def _captions(picture: bytes, key: str = _KEYS["website"], **options: str) -> bytes:
    return post("/v1/captions", *multipart(options, picture), Authorization=f"Bearer {key}")


def _feedback(caption: str, chance: random.Random) -> bytes:
    """Feedback on the caption with this id; most like it, and most of the others know better."""
    good = chance.random() < 0.7
    body = {"caption_id": caption, "rating": "good" if good else "bad"}
    if not good and chance.random() < 0.7:
        body["correction"] = "A dog stands on the grass."
    return post(
        "/v1/feedback", json.dumps(body).encode(), "application/json", Authorization=f"Bearer {_KEYS['website']}"
    )


def _pictures(count: int = 60) -> list[bytes]:
    """Parts of the examples, so that not all get the same captions."""
    chance = random.Random(0)
    wholes = [cv2.imread(str(path)) for path in sorted(EXAMPLES.glob("*.jpg"))]
    parts = []
    for whole in islice(cycle(wholes), count):
        assert whole is not None
        height, width = whole.shape[:2]
        side = chance.randint(min(height, width) // 3, min(height, width))
        top, left = chance.randint(0, height - side), chance.randint(0, width - side)
        parts.append(cv2.imencode(".jpg", whole[top : top + side, left : left + side])[1].tobytes())
    return parts
