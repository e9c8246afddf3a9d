"""How many tasks are there, what does each of them do, and when did their number change?"""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.parts import GREEN, RED, YELLOW, Panel, Query, board, curves, listing, number, states
from deploy.grafana.promql import CAPTIONS, rate, ratio, select

_UP, _READY, _START = select("up"), select("captionist_ready"), select("process_start_time_seconds")
_MEMORY, _CPU, _PICTURES = "process_resident_memory_bytes", "process_cpu_seconds_total", "captionist_pictures_total"
_RUNNING = f"sum({_UP})"
_TASK = "{{instance}}"
_EACH = "instance"

_GLANCE = [
    number(
        "Tasks up",
        "Answer the scrape.",
        "none",
        _RUNNING,
        ((None, RED), (1, GREEN)),
        runbook="CaptionistAbsent",
    ),
    number(
        "Tasks ready", "Take requests.", "none", f"sum({_READY})", ((None, RED), (1, GREEN)), runbook="CaptionistDown"
    ),
    number(
        "Tasks down",
        "Known to Prometheus, but do not answer.",
        "none",
        f"count({_UP}) - {_RUNNING}",
        ((None, GREEN), (1, RED)),
        runbook="CaptionistDown",
    ),
    number(
        "Restarts",
        "In the time shown, of tasks that kept their address. On ECS a new task has a new one: see Scaling.",
        "none",
        f"sum(changes({_START}[$__range]))",
        ((None, GREEN), (1, YELLOW), (3, RED)),
        runbook="CaptionistCrashLoop",
    ),
    number("CPU, all tasks", "Cores' worth of time that all tasks take now.", "suffix: cores", rate(_CPU), decimals=2),
    number("Memory, all tasks", "Resident in all tasks.", "bytes", f"sum({select(_MEMORY)})", decimals=2),
]
_TASKS = [
    curves(
        "Number of tasks",
        "Known: Prometheus has found it. Up: it answers the scrape. Ready: it takes requests.",
        "none",
        Query(f"count({_UP})", "known"),
        Query(_RUNNING, "up"),
        Query(f"sum({_READY})", "ready"),
        steps=True,
        runbook="CaptionistDown",
    ),
    states(
        "Task by task",
        "Whether each answers the scrape.",
        Query(_UP, _TASK),
        {"0": ("down", RED), "1": ("up", GREEN)},
        runbook="CaptionistDown",
    ),
    listing(
        "What runs",
        "Release and model of each task.",
        Query(f"count by (instance, version, model, model_version) ({select('captionist_build_info')})"),
        columns=("instance", "version", "model", "model_version"),
        value="tasks",
        width=8,
    ),
]
_SCALING = [
    curves(
        "Scaling activity",
        "Change in the number of tasks that are up within five minutes: above zero the fleet grew, below it shrank.",
        "none",
        Query(f"clamp_min({_RUNNING} - min_over_time({_RUNNING}[5m:]), 0)", "added"),
        Query(f"clamp_max({_RUNNING} - max_over_time({_RUNNING}[5m:]), 0)", "removed"),
        steps=True,
        low=None,
    ),
    curves(
        "Changes",
        "How often the number of tasks that are up changed, and how many tasks started, in as long as is shown here, "
        "up to each moment.",
        "none",
        Query(f"changes({_RUNNING}[$__range:])", "changes of the number"),
        Query(f"count(max_over_time({_START}[$__range]) > time() - $__range_s) or vector(0)", "tasks started"),
        steps=True,
    ),
    curves(
        "Restarts by task",
        "Of each task within 15 minutes. More than two are a crash loop.",
        "none",
        Query(f"changes({_START}[15m])", _TASK),
        steps=True,
        levels=((3, RED),),
        runbook="CaptionistCrashLoop",
    ),
    curves(
        "Waiting pictures for each task",
        "What scaling can go by: the queue, shared among the tasks that are up.",
        "none",
        Query(ratio(f"sum({select('captionist_queue_depth_pictures')})", _RUNNING), "waiting"),
        runbook="CaptionistSaturated",
    ),
    curves(
        "Requests for captions for each task",
        "A second, shared among the tasks that are up.",
        "reqps",
        Query(ratio(rate("captionist_http_requests_total", CAPTIONS), _RUNNING), "requests"),
    ),
    curves("Uptime", "Since each task started.", "s", Query(f"time() - {_START}", _TASK)),
]
_RESOURCES = [
    curves("CPU", "Cores' worth of time.", "suffix: cores", Query(rate(_CPU, by=_EACH), _TASK)),
    curves("Memory", "Resident.", "bytes", Query(select(_MEMORY), _TASK)),
    curves(
        "File descriptors",
        "Open, as a share of what the task may open.",
        "percentunit",
        Query(f"{select('process_open_fds')} / {select('process_max_fds')}", _TASK),
        levels=((0.8, RED),),
    ),
]
_LOAD = [
    curves(
        "Captions by task",
        "Captions a second. Unequal shares are the load balancer's doing, or those of a task that is slow.",
        "suffix:/s",
        Query(rate(_PICTURES, 'outcome="captioned"', _EACH), _TASK),
        stacked=True,
    ),
    curves(
        "Pictures in each task",
        "Admitted and not done.",
        "none",
        Query(select("captionist_admitted_pictures"), _TASK),
        runbook="CaptionistSaturated",
    ),
    curves(
        "CPU time for a caption",
        "Seconds of a core that a caption costs, idle time's upkeep included: what a rise in traffic will need.",
        "s",
        Query(ratio(rate(_CPU, by=_EACH), rate(_PICTURES, 'outcome="captioned"', _EACH)), _TASK),
    ),
]


def build() -> dashboard.Dashboard:
    """The dashboard."""
    rows: dict[str, Sequence[Panel]] = {
        "At a glance": _GLANCE,
        "Tasks": _TASKS,
        "Scaling": _SCALING,
        "Resources": _RESOURCES,
        "Load": _LOAD,
    }
    return board("captionist-fleet", "Captionist: fleet", "Which tasks run, and what each of them does", rows)
