"""The service at five times its capacity, with hostile clients among the others, and at 70 % load.

Capacity is what 32 clients get that each wait for their answer (closed loop), measured before and after; the higher
figure counts. Overload and 70 % are open loops: requests come at random (Poisson), whether or not the service keeps up.
"""

import argparse
import asyncio
import random
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from harness.hostile_clients import Tally, hang_ups, slow_bodies, slow_headers
from harness.load import UNANSWERED, Load, closed_loop, open_loop
from harness.pictures import photographs, png_of_zeros
from harness.processes import Elsewhere, Service
from harness.report import circumstances, show, verdict, write
from harness.requests import caption_request

_PHOTOGRAPHS = Path("../shared/data/flickr8k/Images")
_DEADLINE = 10.0  # seconds: the service's default
_CLIENTS = 32
_FLAT = 1.05  # memory in the last quarter, relative to the second


def main() -> None:
    given = _arguments()
    result = circumstances() | {"arguments": {k: v for k, v in vars(given).items() if isinstance(v, int | float)}}
    requests = [caption_request(picture) for picture in photographs(given.pictures)]
    with Service(log_format="json", deadline=_DEADLINE) as service:
        uvloop.run(closed_loop(service.port, requests, _CLIENTS, 3))  # warm
        before, others_before = _capacity(service, requests)
        moderate = uvloop.run(open_loop(service.port, lambda c: c.choice(requests), 0.7 * before, given.seconds))
        idle, memory, elsewhere = service.rss() / 1e6, list[float](), Elsewhere(service)
        load, tally = uvloop.run(_overload(service, requests, given.factor * before, given.seconds, memory))
        others, quarter = elsewhere.cores(), len(memory) // 4
        time.sleep(1)
        left = {name: service.metric(f"captionist_{name}") for name in ("admitted_pictures", "queue_depth_pictures")}
        after, others_after = _capacity(service, requests)
        alive = service.process.poll() is None
        dropped = {
            reason: service.metric("captionist_abandoned_requests_total", reason=reason)
            for reason in ("disconnected", "deadline")
        }
        rejected = {
            reason: service.metric("captionist_rejections_total", reason=reason)
            for reason in ("queue_full", "deadline", "memory")
        }
    result |= {
        "capacity": {"before": before, "after": after},
        "others_cores": {"before": others_before, "overload": others, "after": others_after},
        "at_70_percent": _figures(moderate) | {"p99_to_p50": moderate.milliseconds(0.99) / moderate.milliseconds(0.5)},
        "overload": _figures(load)
        | {
            "goodput_to_maximum": load.goodput / max(before, after),
            "accepted_p99_ms": load.milliseconds(0.99, (200, 504)),
            "refused_p99_ms": load.milliseconds(0.99, (503,)),
            "unanswered": load.statuses.get(UNANSWERED, 0),
            "internal_errors": load.statuses.get(500, 0),
            "without_retry_after": sum(a.status == 503 and a.header("retry-after") is None for a in load.answers),
            "hostile": asdict(tally),
            "dropped": dropped,
            "rejected": rejected,
            "left_in_queue": left,
            "alive": alive,
        },
        "memory_mb": {
            "before": idle,
            "second_quarter": statistics.median(memory[quarter : 2 * quarter]),
            "last_quarter": statistics.median(memory[-quarter:]),
            "peak": max(memory),
            "samples": [round(sample) for sample in memory],
        },
    }
    _show(result)
    write(given.json, result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of the overload, and of the 70 %% load")
    parser.add_argument("--factor", type=float, default=5, help="times the capacity")
    parser.add_argument("--pictures", type=Path, default=_PHOTOGRAPHS, help="folder of JPEGs, beside examples/")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _capacity(service: Service, requests: list[bytes]) -> tuple[float, float]:
    """Pictures per second, and the cores that others used meanwhile."""
    elsewhere = Elsewhere(service)
    load = uvloop.run(closed_loop(service.port, requests, _CLIENTS, 12, warm_up=1.5))
    if set(load.statuses) != {200}:
        raise service.fail(f"not all were captioned: {load.statuses}")
    return load.goodput, elsewhere.cores()


async def _overload(
    service: Service, requests: list[bytes], rate: float, seconds: float, memory: list[float]
) -> tuple[Load, Tally]:
    """One request in 200 is a bomb: refused for its size, or as large as the service allows and slow to decode.

    memory: receives the service's resident megabytes, twice a second.
    """
    bombs = [caption_request(png_of_zeros(30_000, 30_000)), caption_request(png_of_zeros(7000, 7000))]
    port, tally, until = service.port, Tally(), time.monotonic() + seconds

    def choose(chance: random.Random) -> bytes:
        return chance.choice(bombs if chance.random() < 0.005 else requests)

    async def watch() -> None:
        while time.monotonic() < until:
            memory.append(service.rss() / 1e6)
            await asyncio.sleep(0.5)

    async with asyncio.timeout(seconds + 120), asyncio.TaskGroup() as group:
        load = group.create_task(open_loop(port, choose, rate, seconds))
        for other in (
            watch(),
            *(slow_headers(port, until, tally) for _ in range(20)),
            *(slow_bodies(port, until, tally) for _ in range(10)),
            hang_ups(port, until, tally, requests, 2, random.Random(1)),
        ):
            group.create_task(other)
    return load.result(), tally


def _figures(load: Load) -> dict[str, Any]:
    return {
        "rate": len(load.answers) / (load.ended - load.begun),
        "statuses": load.statuses,
        "goodput": load.goodput,
        "p50_ms": load.milliseconds(0.5),
        "p99_ms": load.milliseconds(0.99),
        "generator_cores": load.cpu_seconds / (load.ended - load.begun),
        "sent_late": load.late,
    }


def _show(result: dict[str, Any]) -> None:
    over, moderate, memory = result["overload"], result["at_70_percent"], result["memory_mb"]
    growth = memory["last_quarter"] / memory["second_quarter"]
    faults = over["unanswered"] + over["internal_errors"] + over["without_retry_after"]
    rows = [
        [name, f"{figure:.3g}", f"{target:g}", verdict(figure >= target if least else figure <= target)]
        for name, figure, target, least in (
            ("goodput to the maximum", over["goodput_to_maximum"], 0.9, True),
            ("p99 of accepted requests (200, 504), seconds", over["accepted_p99_ms"] / 1000, _DEADLINE, False),
            ("memory: last quarter to second", growth, _FLAT, False),
            ("unanswered, 500, 503 without Retry-After", faults, 0, False),
            ("p99 to p50 at 70 % load", moderate["p99_to_p50"], 3, False),
        )
    ]
    rows.append(["capacity, pictures a second", f"{max(result['capacity'].values()):.1f}", "", ""])
    rows.append(["memory at its peak, MB", f"{memory['peak']:.0f}", "", ""])
    show("Overload", ["", "figure", "target", ""], rows)
    parts = {name: result[name] for name in ("capacity", "others_cores", "at_70_percent", "overload", "memory_mb")}
    told = [
        [f"{part}: {name}", f"{value:.4g}" if isinstance(value, float) else str(value)]
        for part, found in parts.items()
        for name, value in found.items()
    ]
    show("All that was measured", ["", ""], [row for row in told if not row[0].endswith("samples")])


if __name__ == "__main__":
    main()
