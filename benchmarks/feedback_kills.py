"""Kills the service with SIGKILL at random moments while feedback comes in: what was acknowledged must be there.

Most kills are of `_feedback_service`, which is the service without its engine, the rest of `captionist serve` itself.
Requests that got no answer are sent again with their Idempotency-Key, and so are some that had one. In the end the
export must hold every acknowledged feedback once, with its picture where that was to be kept, and nothing twice.

SIGKILL ends a process, not the machine: what the kernel has not yet written survives it.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captionist.server.caption_ids import CaptionIds, CaptionRecord
from harness.load import UNANSWERED, Client, client
from harness.pictures import EXAMPLES
from harness.postgres import Postgres
from harness.processes import Service
from harness.report import circumstances, show, verdict, write
from harness.requests import multipart, post

_SECRET = "signs the ids of captions that nobody wrote"
_POSTERS = 6


@dataclass(slots=True)
class Ledger:
    """What the clients know. Each feedback is told apart by its comment, a number."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """The id that was given for each comment."""
    with_picture: set[str] = field(default_factory=set)
    keyed: list[tuple[str, bytes]] = field(default_factory=list)
    """Comment and request of what was acknowledged and may be sent again."""
    unanswered: list[tuple[str, bytes]] = field(default_factory=list)
    """Of what must be sent again."""
    sent: int = 0
    replayed: int = 0
    changed: int = 0
    """Replays that were answered with another id than at first."""
    other: Counter[int] = field(default_factory=Counter)
    """Statuses other than 201."""


class Poster:
    """Sends feedback until the service is gone."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        self._ledger, self._chance = ledger, chance
        self._picture = (EXAMPLES / "river.jpg").read_bytes()
        ids = CaptionIds(_SECRET)
        digest = hashlib.sha256(self._picture).hexdigest()
        self._ids = [ids.make(CaptionRecord("m", "1", "A cat.", -3.0, 0.5, digest, str(n))) for n in range(50)]

    async def run(self, connections: Client) -> None:
        """Returns when a request gets no answer."""
        while True:
            comment, request, keyed = self._next()
            answer = await connections.send(request)
            if answer.status == UNANSWERED:
                if keyed:
                    self._ledger.unanswered.append((comment, request))
                return
            if answer.status == 201:
                self._note(comment, request, json.loads(answer.body), keyed)
            else:
                self._ledger.other[answer.status] += 1
                if keyed:
                    self._ledger.unanswered.append((comment, request))

    def _next(self) -> tuple[str, bytes, bool]:
        ledger, chance = self._ledger, self._chance
        if ledger.unanswered:
            return *ledger.unanswered.pop(), True
        if ledger.keyed and chance.random() < 0.1:
            return *chance.choice(ledger.keyed), True
        ledger.sent += 1
        comment, keyed = str(ledger.sent), chance.random() < 0.8
        headers = {"Idempotency_Key": f"key-{comment}"} if keyed else {}
        fields = {"caption_id": chance.choice(self._ids), "rating": chance.choice(("good", "bad")), "comment": comment}
        if chance.random() < 0.05:
            body, kind = multipart(fields | {"consent": "true"}, self._picture)
        else:
            body, kind = json.dumps(fields | {"correction": "A cat sleeps."}).encode(), "application/json"
        return comment, post("/v1/feedback", body, kind, **headers), keyed

    def _note(self, comment: str, request: bytes, receipt: dict[str, Any], keyed: bool) -> None:
        ledger = self._ledger
        if comment in ledger.acknowledged:
            ledger.replayed += 1
            ledger.changed += ledger.acknowledged[comment] != receipt["id"]
            return
        ledger.acknowledged[comment] = receipt["id"]
        if receipt["picture_kept"]:
            ledger.with_picture.add(comment)
        if keyed:
            ledger.keyed.append((comment, request))


class Victim:
    """A service that can be killed and comes back with the same data."""

    def __init__(self, stack: ExitStack, whole: bool, **settings: Any) -> None:
        """whole: `captionist serve` itself."""
        self._pid_file: Path | None = None
        command = None
        if not whole:
            self._pid_file = Path(stack.enter_context(_temporary_file()))
            command = [sys.executable, "-m", "benchmarks._feedback_service", str(self._pid_file)]
        self.service = stack.enter_context(
            Service(command=command, secret=_SECRET, keep_pictures=True, log_level="warning", **settings)
        )

    def kill(self) -> None:
        """SIGKILL; it is started again at once, and not waited for."""
        if self._pid_file is None:
            self.service.kill()
            self.service.start()
            return
        pid = int(self._pid_file.read_text(encoding="ascii"))
        os.kill(pid, signal.SIGKILL)
        while self._pid_file.read_text(encoding="ascii") in ("", str(pid)):
            time.sleep(0.001)


async def _lives(victim: Victim, ledger: Ledger, kills: int, chance: random.Random, start_seconds: float) -> None:
    for _ in range(kills):
        if chance.random() < 0.1:  # as it starts
            await asyncio.sleep(chance.random() * start_seconds)
            victim.kill()
            continue
        victim.service.wait_until_ready()
        async with client(victim.service.port) as connections:
            posters = [asyncio.create_task(Poster(ledger, chance).run(connections)) for _ in range(_POSTERS)]
            await asyncio.sleep(chance.random() * 0.5)
            victim.kill()
            await asyncio.gather(*posters)
    victim.service.wait_until_ready()
    while ledger.unanswered:  # those of the last life
        comment, request = ledger.unanswered[-1]
        async with client(victim.service.port) as connections:
            answer = await connections.send(request)
        if answer.status == 201:
            ledger.acknowledged.setdefault(comment, json.loads(answer.body)["id"])
            ledger.unanswered.pop()


def _check(service: Service, ledger: Ledger) -> dict[str, int]:
    status, body = service.get("/v1/feedback/export", timeout=120)
    if status != 200:
        raise service.fail(f"the export answered {status}")
    rows = [json.loads(line) for line in body.splitlines()]
    stored = {row["comment"]: row for row in rows}
    return {
        "stored": len(rows),
        "acknowledged": len(ledger.acknowledged),
        "lost": sum(stored.get(comment, {}).get("id") != known for comment, known in ledger.acknowledged.items()),
        "twice": len(rows) - len(stored),
        "pictures_lost": sum(not stored[comment]["picture_kept"] for comment in ledger.with_picture & stored.keys()),
        "pictures": len(ledger.with_picture),
        "stored_but_not_acknowledged": len(stored.keys() - ledger.acknowledged.keys()),
        "replayed": ledger.replayed,
        "replayed_with_another_id": ledger.changed,
        "answers_other_than_201": sum(ledger.other.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in all")
    parser.add_argument("--whole", type=int, default=100, help="of them, kills of `captionist serve` with its engine")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = circumstances() | {"arguments": {k: str(v) for k, v in vars(given).items()}}
    chance = random.Random(given.seed)
    for name, kills in (("without_engine", given.kills - given.whole), ("captionist_serve", given.whole)):
        if not kills:
            continue
        with ExitStack() as stack:
            settings = {"database_url": stack.enter_context(Postgres()).url} if given.database == "postgresql" else {}
            ledger, begun = Ledger(), time.monotonic()
            victim = Victim(stack, name == "captionist_serve", **settings)
            asyncio.run(_lives(victim, ledger, kills, chance, time.monotonic() - begun))
            result[name] = {"kills": kills, "seconds": round(time.monotonic() - begun)}
            result[name] |= _check(victim.service, ledger)
            write(given.json, result)
    _show(result, given.database)


def _show(result: dict[str, Any], database: str) -> None:
    parts = {name: result[name] for name in ("without_engine", "captionist_serve") if name in result}
    figures = list(next(iter(parts.values())))
    rows = [[figure.replace("_", " "), *(str(part[figure]) for part in parts.values())] for figure in figures]
    show(f"Feedback under SIGKILL, {database}", ["", *(name.replace("_", " ") for name in parts)], rows)
    faults = sum(
        part[figure]
        for part in parts.values()
        for figure in ("lost", "twice", "pictures_lost", "replayed_with_another_id")
    )
    show("", ["", "figure", "target", ""], [["lost, twice or changed", str(faults), "0", verdict(faults == 0)]])


@contextmanager
def _temporary_file() -> Iterator[str]:
    path = Path(f"/tmp/captionist-victim-{os.getpid()}")
    path.touch()
    try:
        yield str(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


if __name__ == "__main__":
    main()
