"""Queries over the tasks that a dashboard's variables choose."""

HERE = 'job="$job", instance=~"$instance"'
ROUTES = 'route=~"/v1/captions|/v1/chat/completions|/api/generate|/api/chat"'  # routes that describe pictures
CAPTIONS = f'{ROUTES}, method="POST"'
MODEL = "model, model_version"
# Labelled with the writer's model, not the task's.
_OF_THE_WRITER = ("captionist_feedback_total", "captionist_feedback_corrections_total")


def select(metric: str, where: str = "") -> str:
    """A metric of the chosen tasks; where: more label matchers."""
    return f"{metric}{{{', '.join(filter(None, (HERE, where)))}}}"


def rate(metric: str, where: str = "", by: str = "", window: str = "$__rate_interval") -> str:
    """A counter's growth per second, summed over the tasks, or by labels. by `MODEL`: also by the model: the task's, or
    for feedback on a caption, the one that wrote it.
    """
    growth = f"rate({select(metric, where)}[{window}])"
    if MODEL in by and metric not in _OF_THE_WRITER:
        growth = f"{growth} * on (job, instance) group_left ({MODEL}) {select('captionist_build_info')}"
    return f"sum by ({by}) ({growth})" if by else f"sum({growth})"


def increase(metric: str, where: str = "", by: str = "", window: str = "$__range") -> str:
    """How much a counter grew within a window, by default everything that the dashboard shows."""
    growth = f"increase({select(metric, where)}[{window}])"
    return f"sum by ({by}) ({growth})" if by else f"sum({growth})"


def ratio(part: str, whole: str) -> str:
    """One query divided by another; no data, instead of NaN, if nothing happened."""
    return f"{part} / ({whole} > 0)"


def quantile(share: float, histogram: str, where: str = "", by: str = "", window: str = "$__rate_interval") -> str:
    """A quantile of a histogram."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', where, labels, window)})"


def mean(histogram: str, where: str = "", by: str = "", window: str = "$__rate_interval") -> str:
    """The mean of a histogram's observations (none may be negative, or there is no sum)."""
    return ratio(rate(f"{histogram}_sum", where, by, window), rate(f"{histogram}_count", where, by, window))


def recorded(rule: str) -> str:
    """The result of a recording rule in deploy/prometheus/rules for the job."""
    return f'{rule}{{job="$job"}}'
