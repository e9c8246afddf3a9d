"""Tasks that come, go and die under load; and the arithmetic that decides over them.

Tests marked `deploy` start containers behind haproxy, as root (`apt-get install haproxy containernetworking-plugins
iptables`, and what deploy/container/build.sh lists). They count requests and tasks; of time they only ask that the
latency comes back, since the machine may be shared.
"""

import asyncio
import json
import re
from collections.abc import Sequence

import pytest

from deploy.fleet.breaker import CircuitBreaker
from deploy.fleet.metrics import average, embedded
from deploy.fleet.scaling import Policy, Scaling
from deploy.fleet.scenarios import QUEUE_TARGET, REQUESTS_TARGET, SCENARIOS, Pace, play
from tests.deploy.containers import ROOT, tool

PACE = Pace(hold=7, datapoint=1, start_grace=25)


@pytest.mark.deploy
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, image: str) -> None:
    for program in ("haproxy", "iptables"):
        tool(program)
    outcome = asyncio.run(play(SCENARIOS[name], image, PACE))
    assert all(outcome.claims.values()), outcome
    columns = {column: len(values) for column, values in outcome.seconds.items()}
    assert len(set(columns.values())) == 1, columns


def wishes(metrics: Sequence[float | None], tasks: int = 2, target: float = 2) -> list[int]:
    policy = Policy(target)
    return [policy.wish(metric, tasks) for metric in metrics]


def test_the_targets_are_those_of_terraform() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy" / "aws").glob("variables*.tf"))
    defaults = dict(re.findall(r'^variable "(\w+)" \{[^}]*?default\s+= (\S+)$', text, re.MULTILINE))
    assert float(defaults["queue_target"]) == QUEUE_TARGET
    assert float(defaults["requests_target"]) / 60 == REQUESTS_TARGET


def test_a_policy_adds_tasks_in_proportion_once_three_datapoints_are_above_its_target() -> None:
    assert wishes([5, 5, 5]) == [2, 2, 5]
    assert wishes([3, 3, 2.1]) == [2, 2, 3]
    assert wishes([5, 5, 2, 5, 5, 5]) == [2, 2, 2, 2, 2, 5]
    assert wishes([2] * 20) == [2] * 20
    assert wishes([0.2] * 3, tasks=3, target=0.1)[-1] == 6  # and not 7, though 3 x 0.2 is a little more than 0.6


def test_a_policy_takes_a_task_away_once_fifteen_datapoints_are_well_below_its_target() -> None:
    assert wishes([0] * 15) == [2] * 14 + [1]
    assert wishes([0] * 15, tasks=9)[-1] == 8
    assert wishes([1.8] * 20) == [2] * 20  # nine tenths
    assert wishes([1.7] * 15)[-1] == 2  # one task would have 3.4
    assert wishes([0] * 14 + [2] + [0] * 14) == [2] * 29


def test_a_policy_decides_nothing_where_a_datapoint_is_missing() -> None:
    assert wishes([5, 5, None, 5, 5, 5]) == [2] * 5 + [5]
    assert wishes([0] * 14 + [None] + [0] * 14) == [2] * 29


def test_scaling_keeps_to_its_bounds() -> None:
    def decided(metric: float, datapoints: int, tasks: int) -> int:
        scaling = Scaling((Policy(1),), least=2, most=4)
        return [scaling.desired((metric,), tasks) for _ in range(datapoints)][-1]

    assert decided(100, 3, tasks=2) == 4
    assert decided(0, 15, tasks=2) == 2


def test_one_policy_adds_tasks_and_all_must_agree_to_take_one_away() -> None:
    def decided(first: float, second: float, datapoints: int) -> int:
        scaling = Scaling((Policy(1), Policy(1)), least=1, most=9)
        return [scaling.desired((first, second), 3) for _ in range(datapoints)][-1]

    assert decided(0, 2, 3) == 6
    assert decided(2, 3, 3) == 9
    assert decided(0, 1, 20) == 3
    assert decided(0, 0, 15) == 2


def test_cooldowns_hold_up_the_next_change() -> None:
    def followed(metrics: Sequence[float], tasks: int) -> list[int]:
        scaling, seen = Scaling((Policy(1),), least=1, most=9, out_cooldown=2, in_cooldown=5), []
        for metric in metrics:
            tasks = scaling.desired((metric,), tasks)
            seen.append(tasks)
        return seen

    assert followed([1.1] * 7, 1) == [1, 1, 2, 2, 3, 3, 4]
    assert followed([0] * 25, 4)[14:] == [3] * 5 + [2] * 5 + [1]
    assert followed([0] * 15 + [3] * 3, 4)[14:] == [3, 3, 3, 9]  # no cooldown holds up what is needed


@pytest.mark.parametrize(("desired", "threshold"), [(1, 3), (6, 3), (7, 4), (50, 25), (1000, 200)])
def test_the_circuit_breaker_opens_at_half_of_the_tasks_and_not_before_three(desired: int, threshold: int) -> None:
    breaker = CircuitBreaker(desired)
    for _ in range(threshold):
        assert not breaker.open
        breaker.failed()
    assert breaker.open


def test_a_task_that_gets_ready_closes_the_circuit_breaker() -> None:
    breaker = CircuitBreaker(1)
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert not breaker.open


def test_metrics_are_found_among_the_lines_of_a_log() -> None:
    names = [{"Name": "QueueDepth"}, {"Name": "Latency"}]
    line = {"_aws": {"CloudWatchMetrics": [{"Metrics": names}]}, "QueueDepth": 3, "Latency": [1, 2], "Other": 1}
    assert embedded(json.dumps(line)) == {"QueueDepth": 3.0}
    assert embedded('{"event": "serving"}') is None
    assert embedded("no JSON") is None
    assert average([{"QueueDepth": 3.0}, {"QueueDepth": 0.0}, {"Errors": 1.0}], "QueueDepth") == 1.5
    assert average([], "QueueDepth") is None
