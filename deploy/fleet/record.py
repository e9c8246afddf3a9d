"""What happened in a run, second by second."""

import asyncio
import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.fleet.containers import State
from deploy.fleet.fleet import Fleet
from deploy.fleet.traffic import Traffic, milliseconds

_WINDOW = 5.0  # seconds of answers that a quantile is taken over


@dataclass
class Record:
    """Looks at the fleet once a second; the requests are counted afterwards. Times are time.monotonic()."""

    fleet: Fleet
    traffic: Traffic
    begun: float = field(default_factory=time.monotonic)
    _fleet: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            fleet = self.fleet
            self._fleet.append(
                {
                    "desired": fleet.desired,
                    "running": len(fleet.of(State.STARTING, State.READY)),
                    "ready": len(fleet.of(State.READY)),
                    "draining": len(fleet.of(State.DRAINING)),
                    "queue_depth": None if fleet.queue_depth is None else round(fleet.queue_depth, 2),
                }
            )
            await asyncio.sleep(self.begun + len(self._fleet) - time.monotonic())

    def seconds(self) -> dict[str, list[Any]]:
        """A column for each curve, with a value for every second."""
        rows = [seen | self._requests(second) for second, seen in enumerate(self._fleet)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def events(self) -> list[tuple[float, str]]:
        """Seconds since the begin, and what happened."""
        return [(round(moment - self.begun, 1), what) for moment, what in self.fleet.events if moment >= self.begun]

    def _requests(self, second: int) -> dict[str, Any]:
        until, ended = self.begun + second + 1, self.traffic.requests
        last = [request for request in ended if until - 1 <= request.answered < until]
        window = [request for request in ended if until - _WINDOW <= request.answered < until]
        quantiles = {f"p{100 * q:.0f}": milliseconds(window, q) for q in (0.5, 0.95, 0.99)}
        return {
            "offered": sum(until - 1 <= sent < until for sent in self.traffic.sent),
            "answered": sum(request.status == 200 for request in last),
            "statuses": dict(sorted(Counter(str(request.first) for request in last).items())),
            "versions": dict(sorted(Counter(request.version for request in last if request.version).items())),
            **{name: None if math.isnan(value) else round(value) for name, value in quantiles.items()},
        }


def write(path: Path, recording: dict[str, Any]) -> None:
    """Write JSON with a line for every value, event and curve."""
    events = ",\n".join(f"    {json.dumps(event)}" for event in recording["events"])
    curves = ",\n".join(f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in recording["seconds"].items())
    rest = {name: value for name, value in recording.items() if name not in ("events", "seconds")}
    text = json.dumps(rest, indent=2).removesuffix("\n}")
    text += f',\n  "events": [\n{events}\n  ],\n  "seconds": {{\n{curves}\n  }}\n}}\n'
    path.write_text(text, encoding="utf-8")
