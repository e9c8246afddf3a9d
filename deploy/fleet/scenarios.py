"""What happens to a fleet under load, and what has to be true of it then."""

import asyncio
import hashlib
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captionist.bundle import Bundle
from deploy.fleet.balancer import balancing
from deploy.fleet.bundles import damaged, of_version
from deploy.fleet.containers import CPUS, Revision, State
from deploy.fleet.fleet import Fleet
from deploy.fleet.record import Record
from deploy.fleet.scaling import Policy, Scaling
from deploy.fleet.traffic import Request, Traffic, milliseconds, statuses
from harness.pictures import EXAMPLES
from harness.requests import multipart, post

_KEY = "f" * 40
_ENVIRONMENT = {
    "CAPTIONIST_API_KEYS": json.dumps([{"name": "load", "sha256": hashlib.sha256(_KEY.encode()).hexdigest()}]),
    "CAPTIONIST_SECRET": "s" * 40,
    "CAPTIONIST_ENGINES": "1",
    "CAPTIONIST_EMF_INTERVAL": "1",
}
_VERSION = Bundle.open().config.version
_NEXT = f"{_VERSION}-next"
FIRST = Revision(f"version {_VERSION}", _ENVIRONMENT)
# The targets are the defaults in deploy/aws: pictures waiting in a task, and requests a second to a vCPU.
QUEUE_TARGET, REQUESTS_TARGET = 2.0, 600 / 60
_CALM, _RISEN = 0.6, 6.0  # requests a second; a task of a quarter of a core does about 4
_STEADY = 3.0  # the same, to two tasks
_RECOVERED = 4  # times the calm p95, below which the latency has come back


@dataclass(frozen=True)
class Pace:
    """Seconds: how long a load lasts at least, what stands for a minute of CloudWatch, and until when a task has to be
    ready."""

    hold: float
    datapoint: float
    start_grace: float


@dataclass
class Outcome:
    """Of a scenario. claims: what had to be true, and whether it was."""

    counts: dict[str, Any]
    claims: dict[str, bool]
    events: list[tuple[float, str]] = field(default_factory=list)
    seconds: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class Stage:
    """A fleet under load, and what is seen of it."""

    fleet: Fleet
    traffic: Traffic
    pace: Pace
    folder: Path
    work: list[asyncio.Task[None]]

    async def hold(self) -> None:
        """Let the load go on for a while."""
        await asyncio.sleep(self.pace.hold)

    async def end(self) -> None:
        """Send no more, and wait for the last answers."""
        for task in self.work:
            task.cancel()
        await asyncio.wait(self.work)

    def requests(self, begun: float = 0.0, ended: float = math.inf) -> list[Request]:
        """Those that were sent from then until then."""
        return [request for request in self.traffic.requests if begun <= request.sent < ended]


@dataclass(frozen=True)
class Scenario:
    """rate: requests a second at first; tasks: at least and at most; retry: whether clients try once more."""

    title: str
    act: Callable[[Stage], Awaitable[Outcome]]
    rate: float
    tasks: tuple[int, int]
    retry: bool = False


async def play(scenario: Scenario, image: str, pace: Pace) -> Outcome:
    """Start a fleet, let the scenario happen to it, and leave nothing behind."""
    sent = [
        post("/v1/captions", *multipart({}, path.read_bytes()), Authorization=f"Bearer {_KEY}")
        for path in sorted(EXAMPLES.glob("*.jpg"))
    ]
    scaling = Scaling((Policy(QUEUE_TARGET), Policy(CPUS * REQUESTS_TARGET)), *scenario.tasks)
    with tempfile.TemporaryDirectory(prefix="captionist-fleet-") as folder, balancing() as balancer:
        fleet = Fleet(image, balancer, FIRST, scaling, scenario.tasks[0], pace.datapoint, pace.start_grace)
        async with fleet.running(), asyncio.TaskGroup() as group:
            traffic = Traffic(sent, scenario.rate, scenario.retry)
            record = Record(fleet, traffic)
            work = [group.create_task(traffic.run(balancer.port)), group.create_task(record.run())]
            outcome = await scenario.act(Stage(fleet, traffic, pace, Path(folder), work))
    outcome.events, outcome.seconds = record.events(), record.seconds()
    return outcome


async def _tenfold(stage: Stage) -> Outcome:
    fleet, traffic = stage.fleet, stage.traffic
    begun = time.monotonic()
    await stage.hold()
    await stage.hold()  # few come, and a quantile needs some
    risen, traffic.rate = time.monotonic(), _RISEN
    await fleet.until(lambda: fleet.desired > 1 and fleet.steady and (fleet.queue_depth or 0) < QUEUE_TARGET)
    most = fleet.desired
    recovered = time.monotonic()
    await stage.hold()
    fallen, traffic.rate = time.monotonic(), _CALM
    await fleet.until(lambda: fleet.desired == 1 and fleet.steady)
    await stage.end()
    calm = milliseconds(stage.requests(begun, risen), 0.95)
    afterwards = milliseconds(stage.requests(recovered, fallen), 0.95)
    rising, after = statuses(stage.requests(risen, recovered)), statuses(stage.requests(recovered))
    return Outcome(
        {
            "requests": len(traffic.requests),
            "statuses while calm": statuses(stage.requests(begun, risen)),
            "statuses while the load rose": rising,
            "statuses from then on": after,
            "p95 while calm, ms": round(calm),
            "p95 while the load rose, ms": round(milliseconds(stage.requests(risen, recovered), 0.95)),
            "p95 after tasks were added, ms": round(afterwards),
            "tasks at most": most,
            "tasks stopped, by exit code": _exit_codes(fleet),
        },
        {
            "tasks are added, and taken away again": most > 1 and len(fleet.of(State.READY)) == 1,
            f"p95 comes back below {_RECOVERED} times that of the calm": afterwards < _RECOVERED * calm,
            "while the load rises, requests are answered, or refused with 503 or 504": set(rising) <= {200, 503, 504},
            "from then on every request is answered": set(after) == {200},
            "every task that was taken away ends with 0": set(_exit_codes(fleet)) == {0},
        },
    )


async def _killed(stage: Stage) -> Outcome:
    fleet, balancer = stage.fleet, stage.fleet.balancer
    begun = time.monotonic()
    await stage.hold()
    victim = fleet.of(State.READY)[0]
    await fleet.until(lambda: balancer.targets()[victim.number].in_flight >= 2)
    before = balancer.targets()[victim.number]
    await victim.kill()
    # The kernel takes its time to let go of the memory, and closes the sockets after that.
    while_dying = balancer.targets()[victim.number].requests - before.requests
    in_flight = before.in_flight + while_dying
    await fleet.until(lambda: victim.exit_code is not None and fleet.steady)
    await stage.hold()
    await stage.end()
    requests = stage.requests(begun)
    failed = [request for request in requests if request.first != 200]
    lost = [request for request in requests if request.status != 200]
    return Outcome(
        {
            "requests": len(requests),
            "in flight on the task that was killed": before.in_flight,
            "given to it while it died": while_dying,
            "statuses of first attempts": statuses(requests),
            "failed at the first attempt": len(failed),
            "failed after one retry": len(lost),
            "its exit code": victim.exit_code,
        },
        {
            "it was killed by SIGKILL, and replaced": victim.exit_code == 137 and len(fleet.tasks) == 3,
            "no more requests fail than it had in flight": 0 < len(failed) <= in_flight,
            "with one retry none fails": not lost,
        },
    )


async def _deployed(stage: Stage) -> Outcome:
    fleet = stage.fleet
    model = of_version(_NEXT, stage.folder)
    await stage.hold()
    begun = time.monotonic()
    fleet.deploy(Revision(f"version {_NEXT}", FIRST.environment, model))
    await fleet.until(lambda: fleet.steady)
    done = time.monotonic()
    await stage.hold()
    await stage.end()
    versions = {
        "before": _versions(stage.requests(0, begun)),
        "meanwhile": _versions(stage.requests(begun, done)),
        "afterwards": _versions(stage.requests(done)),
    }
    all_statuses = statuses(stage.requests())
    return Outcome(
        {
            "requests": len(stage.requests()),
            "statuses": all_statuses,
            **{f"model versions {when}": found for when, found in versions.items()},
            "least tasks ready": fleet.least_ready,
            "most tasks running": fleet.most_running,
            "tasks stopped, by exit code": _exit_codes(fleet),
        },
        {
            "every request is answered": set(all_statuses) == {200},
            "the answers' version changes to the next one": [set(found) for found in versions.values()]
            == [{_VERSION}, {_VERSION, _NEXT}, {_NEXT}],
            "never fewer tasks ready than desired, never more than twice as many": fleet.least_ready >= fleet.desired
            and fleet.most_running <= 2 * fleet.desired,
            "every old task ends with 0": _exit_codes(fleet) == {0: fleet.desired},
        },
    )


async def _given_up(stage: Stage) -> Outcome:
    fleet = stage.fleet
    bad = (
        Revision("a damaged model", FIRST.environment, damaged(_NEXT, stage.folder)),
        Revision("one that is never ready", {**FIRST.environment, "CAPTIONIST_PORT": "8001"}),
    )
    counts: dict[str, Any] = {}
    for revision in bad:
        await stage.hold()
        fleet.deploy(revision)
        await fleet.until(lambda: fleet.steady)
        counts[f"failures until {revision.name} was given up"] = fleet.failures
    failures = list(counts.values())
    await stage.hold()
    await stage.end()
    all_statuses, versions = statuses(stage.requests()), _versions(stage.requests())
    return Outcome(
        counts
        | {
            "requests": len(stage.requests()),
            "statuses": all_statuses,
            "model versions": versions,
            "what the damaged model's tasks said": sorted(
                {line for task in fleet.tasks if task.revision == bad[0] for line in task.log}
            ),
            "least tasks ready": fleet.least_ready,
            "most tasks running": fleet.most_running,
        },
        {
            "each is given up after 3 failures, and the last good one stays": failures == [3, 3]
            and fleet.revision == FIRST,
            "every request is answered": set(all_statuses) == {200},
            "the old version serves all the time": set(versions) == {_VERSION} and fleet.least_ready >= fleet.desired,
            "never more than twice as many tasks as desired": fleet.most_running <= 2 * fleet.desired,
        },
    )


def _versions(requests: list[Request]) -> dict[str, int]:
    return dict(sorted(Counter(request.version for request in requests if request.version).items()))


def _exit_codes(fleet: Fleet) -> dict[int | None, int]:
    return dict(Counter(task.exit_code for task in fleet.of(State.ENDED)))


SCENARIOS = {
    "tenfold": Scenario("The load rises tenfold, and falls again", _tenfold, _CALM, (1, 4)),
    "killed": Scenario("A task is killed", _killed, _STEADY, (2, 2), retry=True),
    "deployed": Scenario("A new model is deployed", _deployed, _STEADY, (2, 2)),
    "given-up": Scenario("Bad deployments are given up", _given_up, _STEADY, (3, 3)),
}
