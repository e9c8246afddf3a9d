"""The service's controller, which does what ECS does: it keeps as many tasks as are wanted, of the revision wanted."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from deploy.fleet.balancer import Balancer
from deploy.fleet.breaker import CircuitBreaker
from deploy.fleet.containers import Revision, State, Task, remove_all
from deploy.fleet.metrics import average
from deploy.fleet.scaling import Scaling

_TICK = 0.25  # seconds
_DEREGISTRATION_DELAY = 30.0  # seconds that what is in flight may take; the balancer is done earlier where nothing is
_PATIENCE = 240.0  # seconds to wait for anything in a run; a machine may be busy


@dataclass
class Fleet:
    """A service of tasks behind a balancer.

    datapoint: seconds that stand for CloudWatch's 60; start_grace: seconds within which a task has to be ready.
    """

    image: str
    balancer: Balancer
    revision: Revision
    scaling: Scaling
    desired: int
    datapoint: float
    start_grace: float
    tasks: list[Task] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    queue_depth: float | None = None
    """The last datapoint: mean pictures waiting in a task."""
    failures: int = 0
    """Tasks of the last deployment that was given up, which had failed by then."""
    least_ready: int = 0
    most_running: int = 0
    """Tasks at the worst moment since it was first steady."""

    def __post_init__(self) -> None:
        self.last_good = self.revision
        self.breaker = CircuitBreaker(self.desired)
        self._deploying = True
        self._requests = 0

    def of(self, *states: State) -> list[Task]:
        """Tasks in one of these states."""
        return [task for task in self.tasks if task.state in states]

    @property
    def steady(self) -> bool:
        """Whether as many tasks as wanted are ready, all of the wanted revision, and no other is left."""
        left = self.of(State.STARTING, State.READY, State.DRAINING)
        return (
            len(left) == self.desired
            and all(task.state == State.READY and task.revision == self.revision for task in left)
            and not self._deploying
        )

    def deploy(self, revision: Revision) -> None:
        """Replace all tasks by such of another revision."""
        self.revision, self.breaker, self._deploying = revision, CircuitBreaker(self.desired), True
        self._note(f"deployment of {revision.name}")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something. Raises TimeoutError."""
        async with asyncio.timeout(_PATIENCE):
            while not holds():
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it, first until it is steady; no container is left in the end."""
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._work())
                await self.until(lambda: self.steady)
                self.least_ready = self.most_running = self.desired
                yield
                work.cancel()
        finally:
            remove_all()

    async def _work(self) -> None:
        due = time.monotonic() + self.datapoint
        async with asyncio.TaskGroup() as group:
            while True:
                self._observe(group)
                if time.monotonic() >= due:
                    due += self.datapoint
                    self._scale()
                self._reconcile(group)
                self.least_ready = min(self.least_ready, len(self.of(State.READY)))
                self.most_running = max(self.most_running, len(self.of(State.STARTING, State.READY)))
                await asyncio.sleep(_TICK)

    def _observe(self, group: asyncio.TaskGroup) -> None:
        """Take note of tasks that got ready, died, or never get ready."""
        targets = self.balancer.targets()
        for task in self.of(State.STARTING, State.READY):
            up = targets[task.number].up
            late = time.monotonic() - task.created > self.start_grace
            if task.state == State.STARTING and up:
                task.state = State.READY
                if task.revision == self.revision:
                    self.breaker.succeeded()
            elif task.exit_code is not None or (late and not up):
                starting = task.state == State.STARTING
                how = "is not ready" if task.exit_code is None else f"ended with {task.exit_code}"
                self._note(f"task {task.number} {how}")
                self._retire(group, task)
                if starting and self._deploying and task.revision == self.revision:
                    self.breaker.failed()

    def _scale(self) -> None:
        """Hand the metrics of one period to the policies: the tasks' own, and the balancer's requests a task."""
        reported = [line for task in self.tasks for line in task.reported]
        for task in self.tasks:
            task.reported.clear()
        self.queue_depth = average(reported, "QueueDepth")
        before, self._requests = self._requests, sum(target.requests for target in self.balancer.targets().values())
        ready = len(self.of(State.READY))
        rate = (self._requests - before) / self.datapoint / ready if ready else None
        wanted = self.scaling.desired((self.queue_depth, rate), self.desired)
        if wanted != self.desired:
            self._note(f"{self.desired} to {wanted} tasks")
            self.desired = wanted

    def _reconcile(self, group: asyncio.TaskGroup) -> None:
        """Start and retire tasks: never fewer ready ones than desired, never more than twice as many at all."""
        if self._deploying and self.breaker.open:
            self.failures = self.breaker.failures
            self._note(f"{self.revision.name} given up, back to {self.last_good.name}")
            self.revision, self.breaker = self.last_good, CircuitBreaker(self.desired)
        alive = self.of(State.STARTING, State.READY)
        wanted = [task for task in alive if task.revision == self.revision]
        others = [task for task in alive if task.revision != self.revision]
        starting = [task for task in others if task.state == State.STARTING]
        starting += [task for task in wanted[self.desired :] if task.state == State.STARTING]
        for task in starting:
            self._retire(group, task)
        for _ in range(min(self.desired - len(wanted), 2 * self.desired - len(self.of(State.STARTING, State.READY)))):
            task = Task(len(self.tasks) + 1, self.revision)
            self.tasks.append(task)
            group.create_task(self._start(task))
        ready = sorted(self.of(State.READY), key=lambda task: (task.revision == self.revision, -task.number))
        for task in ready[: max(len(ready) - self.desired, 0)]:
            self._retire(group, task)
        if self._deploying and not others and len(self.of(State.READY)) >= self.desired:
            self._deploying, self.last_good = False, self.revision
            self._note(f"{self.revision.name} is deployed")

    async def _start(self, task: Task) -> None:
        await task.run(self.image)
        if task.state == State.STARTING:
            self.balancer.register(task.number, task.address)
        await task.follow()

    def _retire(self, group: asyncio.TaskGroup, task: Task) -> None:
        task.state = State.DRAINING
        group.create_task(self._drain_and_stop(task))

    async def _drain_and_stop(self, task: Task) -> None:
        """As a task leaves: deregistered, then what is in flight, then SIGTERM, then SIGKILL."""
        while not task.address:  # podman is still at it
            await asyncio.sleep(_TICK)
        self.balancer.drain(task.number)
        give_up = time.monotonic() + _DEREGISTRATION_DELAY
        while self.balancer.targets()[task.number].in_flight and time.monotonic() < give_up:
            await asyncio.sleep(_TICK)
        if task.exit_code is None:
            await task.stop()
            await self.until(lambda: task.exit_code is not None)
            self._note(f"task {task.number} stopped with {task.exit_code}")
        self.balancer.forget(task.number)
        await task.remove()
        task.state = State.ENDED

    def _note(self, what: str) -> None:
        self.events.append((time.monotonic(), what))
