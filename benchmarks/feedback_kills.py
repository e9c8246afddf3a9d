"""Kills the service with SIGKILL at random moments while feedback comes in: what was acknowledged must be there.

Requests that got no answer are sent again with their Idempotency-Key, and so are some that got one. In the end, the
export must hold every acknowledged feedback once, with its picture if that was to be kept, and nothing twice.

SIGKILL ends a process, not the machine: what the kernel has not yet written survives it.
"""

import argparse
import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from contextlib import ExitStack
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
    """What the clients know. Each feedback is identified by its comment, a number."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """The id that was returned for each comment."""
    with_picture: set[str] = field(default_factory=set)
    keyed: list[tuple[str, bytes]] = field(default_factory=list)
    """Comments and requests that were acknowledged and may be sent again."""
    unanswered: list[tuple[str, bytes]] = field(default_factory=list)
    """Comments and requests that must be sent again."""
    sent: int = 0
    replayed: int = 0
    changed: int = 0
    """Replays that were answered with another id than the first time."""
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


def _kill(service: Service) -> None:
    """SIGKILL; the service is started again at once, with the same data, and not waited for."""
    service.kill()
    service.start()


async def _lives(service: Service, ledger: Ledger, kills: int, chance: random.Random, start_seconds: float) -> None:
    for _ in range(kills):
        if chance.random() < 0.1:  # while it starts
            await asyncio.sleep(chance.random() * start_seconds)
            _kill(service)
            continue
        service.wait_until_ready()
        async with client(service.port) as connections:
            posters = [asyncio.create_task(Poster(ledger, chance).run(connections)) for _ in range(_POSTERS)]
            await asyncio.sleep(chance.random() * 0.5)
            _kill(service)
            await asyncio.gather(*posters)
    service.wait_until_ready()
    while ledger.unanswered:  # from the last life
        comment, request = ledger.unanswered[-1]
        async with client(service.port) as connections:
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
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with ExitStack() as stack:
        settings: dict[str, Any] = {}
        if given.database == "postgresql":
            settings["database_url"] = stack.enter_context(Postgres()).url
        ledger, begun = Ledger(), time.monotonic()
        service = Service(secret=_SECRET, keep_pictures=True, log_level="warning", **settings)
        stack.enter_context(service)
        started = time.monotonic() - begun
        asyncio.run(_lives(service, ledger, given.kills, random.Random(given.seed), started))
        found = {"kills": given.kills, "seconds": round(time.monotonic() - begun)} | _check(service, ledger)
    faults = sum(found[figure] for figure in ("lost", "twice", "pictures_lost", "replayed_with_another_id"))
    rows = [[figure.replace("_", " "), str(value)] for figure, value in found.items()]
    show(f"Feedback under SIGKILL, {given.database}", ["", ""], rows)
    show("", ["", "figure", "target", ""], [["lost, twice or changed", str(faults), "0", verdict(faults == 0)]])
    arguments = {name: str(value) for name, value in vars(given).items()}
    write(given.json, circumstances(of_model=False) | {"arguments": arguments} | found)


if __name__ == "__main__":
    main()
