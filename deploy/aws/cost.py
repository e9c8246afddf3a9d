"""What the service costs a month at AWS, worked out: `python -m deploy.aws.cost`.

The prices are list prices of us-east-1 as we remember them: nothing here can reach AWS's price list, so check them
before relying on a sum. Left out: data transfer to clients, tax, free tiers, and what is off by default (WAF, NAT,
exports).
"""

import math
import sys
from dataclasses import dataclass

HOURS = 730  # a month's
SECONDS = HOURS * 3600

# Measured (docs/service.md, Throughput): 36.4 pictures a second on two cores. On another processor than Fargate's.
PICTURES_A_SECOND_AND_CORE = 36.4 / 2
REQUESTS_TARGET = 600  # a minute and vCPU, to which scaling keeps the load (var.requests_target)
LOAD = REQUESTS_TARGET / 60 / PICTURES_A_SECOND_AND_CORE
FEWEST_TASKS = 2
VCPU, GIB = 1, 2  # a task's

PICTURE_KB, ANSWER_KB, LOG_KB = 200, 1, 1  # assumed, for each request
EMF_KB, EMF_SECONDS = 1.5, 10  # a line of embedded metrics, assumed, and how often each task writes one


@dataclass(frozen=True)
class Prices:
    """US dollars, us-east-1, on demand: list prices as we remember them."""

    vcpu_hour: float
    gib_hour: float
    balancer_hour: float = 0.0225
    capacity_unit_hour: float = 0.008  # 25 new connections or 1 GB an hour
    endpoint_hour: float = 0.01  # each interface endpoint, in each zone
    endpoint_gb: float = 0.01
    address_hour: float = 0.005  # public IPv4; the load balancer has one in each zone
    database_hour: float = 0.016  # db.t4g.micro
    database_gb: float = 0.115  # gp3, a month
    log_gb: float = 0.50
    metric: float = 0.30  # a month
    alarm_metric: float = 0.10  # each metric that an alarm looks at, a month
    secret: float = 0.40  # a month
    samples_million: float = 0.90  # Managed Prometheus, ingestion


X86_64 = Prices(vcpu_hour=0.04048, gib_hour=0.004445)
ARM64 = Prices(vcpu_hour=0.03238, gib_hour=0.00356)

ZONES = 2
ENDPOINTS = 4  # ecr.api, ecr.dkr, logs, secretsmanager
SECRETS = 3
ALARM_METRICS = 9 + 3 + 2 + 6  # alarms.tf: one metric each, failures, missing_tasks; two alarms of each scaling policy
METRICS = 11 + 2 + 30  # the service's own, its log's, and about as many of Container Insights
SERIES = 355  # in one task's /metrics as it starts: curl -s localhost:8000/metrics | grep -vc '^#'


def tasks(pictures_a_second: float) -> int:
    """Tasks that a steady load needs."""
    return max(FEWEST_TASKS, math.ceil(pictures_a_second / (PICTURES_A_SECOND_AND_CORE * VCPU * LOAD)))


def monthly(pictures_a_second: float, prices: Prices) -> dict[str, float]:
    """Dollars a month for a load that never rests, by item."""
    count = tasks(pictures_a_second)
    requests = pictures_a_second * SECONDS
    transferred_gb = requests * (PICTURE_KB + ANSWER_KB) / 1e6
    # A new connection for each request is the dearest case.
    units = max(pictures_a_second / 25, transferred_gb / HOURS)
    log_gb = (requests * LOG_KB + count * SECONDS / EMF_SECONDS * EMF_KB) / 1e6
    balancer = prices.balancer_hour + units * prices.capacity_unit_hour + ZONES * prices.address_hour
    return {
        "tasks": HOURS * count * (VCPU * prices.vcpu_hour + GIB * prices.gib_hour),
        "load balancer": HOURS * balancer,
        "VPC endpoints": HOURS * ENDPOINTS * ZONES * prices.endpoint_hour + log_gb * prices.endpoint_gb,
        "database": HOURS * prices.database_hour + 20 * prices.database_gb,
        "logs": log_gb * prices.log_gb,
        "metrics, alarms, secrets": METRICS * prices.metric
        + ALARM_METRICS * prices.alarm_metric
        + SECRETS * prices.secret,
    }


def prometheus(pictures_a_second: float, prices: Prices) -> float:
    """Dollars a month for Managed Prometheus, where it is on: samples, and its endpoint."""
    samples = tasks(pictures_a_second) * SERIES * SECONDS / 30
    return samples / 1e6 * prices.samples_million + HOURS * ZONES * prices.endpoint_hour


def table(loads: tuple[float, ...] = (0, 10, 100)) -> str:
    """The table of docs/aws.md."""
    columns = [(load, monthly(load, X86_64)) for load in loads]
    sums = [sum(items.values()) for _, items in columns]
    arm = [sum(monthly(load, ARM64).values()) for load in loads]
    each = [f"{total / (load * SECONDS) * 1e6:,.0f}" if load else "" for load, total in zip(loads, sums, strict=True)]
    rows = [
        ["dollars a month", *(f"{load:g} pictures/s" if load else "idle" for load in loads)],
        ["---", *("---:" for _ in loads)],
        [f"tasks of {VCPU} vCPU and {GIB} GiB", *(str(tasks(load)) for load in loads)],
        *([item, *(f"{items[item]:,.0f}" for _, items in columns)] for item in columns[0][1]),
        ["**together**", *(f"**{total:,.0f}**" for total in sums)],
        ["a million pictures", *each],
        ["together, on ARM64", *(f"{total:,.0f}" for total in arm)],
        ["Managed Prometheus, where it is on", *(f"{prometheus(load, X86_64):,.0f}" for load in loads)],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
