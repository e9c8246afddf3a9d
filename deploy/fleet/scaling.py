"""Target tracking as Application Auto Scaling does it, so far as AWS tells how.

https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
It adds tasks in proportion and at once, and takes them away "more gradually"; its very steps are not published, and
here it is one task at a time.
"""

import math
from collections import deque
from dataclasses import dataclass, field

_OUT, _IN = 3, 15  # datapoints in a row that CloudWatch's alarms of such a policy wait for
_SLACK = 0.9  # the lower alarm's threshold, as a part of the target


@dataclass(slots=True)
class Policy:
    """One metric and the value to keep it at; what it makes of the number of tasks."""

    target: float
    _seen: deque[float] = field(default_factory=lambda: deque(maxlen=_IN))

    def wish(self, metric: float | None, tasks: int) -> int:
        """How many tasks there should be instead of so many, after one more datapoint; None is a missing one."""
        if metric is None:
            self._seen.clear()
            return tasks
        self._seen.append(metric)
        proportional = math.ceil(round(tasks * metric / self.target, 6))
        last = list(self._seen)[-_OUT:]
        if len(last) == _OUT and min(last) > self.target:
            return proportional
        if len(self._seen) == _IN and max(self._seen) < _SLACK * self.target:
            return max(proportional, tasks - 1)
        return tasks


@dataclass(slots=True)
class Scaling:
    """Several policies together: any may add tasks, and tasks are taken away when all agree. Times are datapoints."""

    policies: tuple[Policy, ...]
    least: int
    most: int
    out_cooldown: int = 1
    in_cooldown: int = 5
    _datapoint: int = 0
    _changed_out: int | None = None
    _changed_in: int | None = None

    def desired(self, metrics: tuple[float | None, ...], tasks: int) -> int:
        """How many tasks there should be instead of so many, after one more datapoint of each metric."""
        self._datapoint += 1
        wishes = [policy.wish(metric, tasks) for policy, metric in zip(self.policies, metrics, strict=True)]
        wanted = min(max(*wishes, self.least), self.most)
        if wanted > tasks and self._passed(self._changed_out, self.out_cooldown):
            self._changed_out, self._changed_in = self._datapoint, None
            return wanted
        quiet = self._passed(self._changed_in, self.in_cooldown) and self._passed(self._changed_out, self.in_cooldown)
        if wanted < tasks and quiet:
            self._changed_in = self._datapoint
            return wanted
        return tasks

    def _passed(self, since: int | None, cooldown: int) -> bool:
        return since is None or self._datapoint - since >= cooldown
