"""How many cores this process may really use, also in a container."""

import math
from pathlib import Path

from captionist.system import schedulable_cores


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores of this process: those it may be scheduled on, or its container's quota if that is less.

    A fraction of a core in a quota is rounded up. Without this, a container limited to 2 of 64 cores would start 64
    threads and spend its time being throttled.
    """
    cores = schedulable_cores()
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores that the control group allows (version 2, then version 1); None if it sets no limit."""
    try:
        allowed, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cores = int(allowed) / int(period)
    except (ValueError, ZeroDivisionError):  # "max" is version 2's word for no limit
        return None
    return cores if cores > 0 else None  # -1 is version 1's
