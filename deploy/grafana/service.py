"""Is the service well? Rate, errors, duration, saturation, and how fast the objectives' budgets are used up."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.parts import GREEN, ORANGE, RED, YELLOW, Panel, Query, board, curves, number
from deploy.grafana.promql import CAPTIONS, ROUTES, increase, mean, quantile, rate, ratio, recorded, select

_REQUESTS, _DURATION = "captionist_http_requests_total", "captionist_http_request_duration_seconds"
_STAGES = "captionist_stage_duration_seconds"
_DONE = f'{ROUTES}, status="200"'
_FAILED = f'{CAPTIONS}, status=~"5.."'
_ERRORS, _SLOW = "job:captionist_caption_errors:ratio_rate", "job:captionist_slow_captions:ratio_rate"
_ERRORS_ALLOWED, _SLOW_ALLOWED, _SLOW_SECONDS = 0.005, 0.05, 2.5  # as in deploy/prometheus/rules/objectives.yml
_BURN_LEVELS = ((1, YELLOW), (6, ORANGE), (14.4, RED))  # as in the alerts


def _burn(rule: str, window: str, allowed: float) -> str:
    return f"{recorded(rule + window)} / {allowed}"


def _burns(rule: str, allowed: float) -> list[Query]:
    return [Query(_burn(rule, window, allowed), window) for window in ("5m", "1h", "6h", "3d")]


_GLANCE = [
    number("Requests for captions", "How many come now.", "reqps", rate(_REQUESTS, CAPTIONS), decimals=1),
    number(
        "Answered without fault",
        "Share of all requests for captions in the time shown that did not end with 5xx. The objective is 99.5 %.",
        "percentunit",
        f"1 - {ratio(increase(_REQUESTS, _FAILED), increase(_REQUESTS, CAPTIONS))}",
        ((None, RED), (0.99, ORANGE), (1 - _ERRORS_ALLOWED, GREEN)),
        decimals=2,
        runbook="CaptionistErrorBudgetBurn",
    ),
    number(
        "Duration, p95",
        f"95 of 100 captions in the time shown came at least this fast. The objective is {_SLOW_SECONDS} s.",
        "s",
        quantile(0.95, _DURATION, _DONE, window="$__range"),
        ((None, GREEN), (1, YELLOW), (_SLOW_SECONDS, RED)),
        decimals=2,
        runbook="CaptionistLatencyBudgetBurn",
    ),
    number(
        "Error budget burn, 1 h",
        "How many times faster than allowed the month's budget of errors is used up. At 14.4 somebody is paged.",
        "suffix:x",
        _burn(_ERRORS, "1h", _ERRORS_ALLOWED),
        ((None, GREEN), *_BURN_LEVELS),
        decimals=1,
        runbook="CaptionistErrorBudgetBurn",
    ),
    number(
        "Up for",
        "How long ago the task that started last did so.",
        "s",
        f"time() - max({select('process_start_time_seconds')})",
        decimals=1,
        runbook="CaptionistCrashLoop",
    ),
    number(
        "Alerts firing",
        "Alerts of deploy/prometheus/rules. Where they fire is also marked in every graph.",
        "none",
        'count(ALERTS{alertname=~"Captionist.+", alertstate="firing", job="$job"}) or vector(0)',
        ((None, GREEN), (1, RED)),
    ),
]
_TRAFFIC = [
    curves("Requests by route", "Answers a second.", "reqps", Query(rate(_REQUESTS, by="route"), "{{route}}")),
    curves(
        "Requests for captions by status",
        "Answers a second. 4xx are the clients' doing, 503 is a refusal for want of room, 504 took too long.",
        "reqps",
        Query(rate(_REQUESTS, CAPTIONS, "status"), "{{status}}"),
        stacked=True,
        runbook="CaptionistErrorBudgetBurn",
    ),
    curves(
        "Share of requests for captions that fail",
        "Of all requests for captions. The dashed line is what the objective allows of faults.",
        "percentunit",
        Query(ratio(rate(_REQUESTS, _FAILED), rate(_REQUESTS, CAPTIONS)), "the service's fault (5xx)"),
        Query(
            ratio(rate(_REQUESTS, f'{CAPTIONS}, status=~"4.."'), rate(_REQUESTS, CAPTIONS)), "the client's fault (4xx)"
        ),
        levels=((_ERRORS_ALLOWED, RED),),
        runbook="CaptionistErrorBudgetBurn",
    ),
]
_TIMES = [
    curves(
        "Duration of captions",
        f"From header to answer, of those answered with 200. The dashed line is the objective, {_SLOW_SECONDS} s.",
        "s",
        *(Query(quantile(q, _DURATION, _DONE), f"p{100 * q:.0f}") for q in (0.5, 0.95, 0.99)),
        levels=((_SLOW_SECONDS, RED),),
        runbook="CaptionistLatencyBudgetBurn",
    ),
    curves(
        "Stages, mean",
        "What a picture's time is spent on: read it, wait for the engine, run the encoder, write the caption. "
        "Encode and generate are those of a whole batch.",
        "s",
        Query(mean(_STAGES, by="stage"), "{{stage}}"),
        stacked=True,
    ),
    curves(
        "Stages, p95",
        "95 of 100 pictures, or batches, took at most this long in each stage.",
        "s",
        Query(quantile(0.95, _STAGES, by="stage"), "{{stage}}"),
        runbook="CaptionistLatencyBudgetBurn",
    ),
    curves(
        "Duration by route, p95",
        "From header to answer, whatever the answer was.",
        "s",
        Query(quantile(0.95, _DURATION, by="route"), "{{route}}"),
        width=12,
    ),
    curves(
        "Duration of refusals, p95",
        "A service that is full should say so quickly.",
        "s",
        Query(quantile(0.95, _DURATION, f'{ROUTES}, status=~"401|429|503"', "status"), "{{status}}"),
        width=12,
    ),
]
_SATURATION = [
    curves(
        "Pictures in the house",
        "Admitted: accepted and not done; at the limit (CAPTIONIST_MAX_QUEUE of all tasks) further ones are refused. "
        "Waiting: those of them that wait for the engine.",
        "none",
        Query(f"sum({select('captionist_admitted_pictures')})", "admitted"),
        Query(f"sum({select('captionist_queue_depth_pictures')})", "waiting"),
        Query(f"sum({select('captionist_queue_limit_pictures')})", "limit"),
        runbook="CaptionistSaturated",
    ),
    curves(
        "Rejections by reason",
        "Requests a second that were refused without being tried.",
        "reqps",
        Query(rate("captionist_rejections_total", by="reason"), "{{reason}}"),
        stacked=True,
        runbook="CaptionistSaturated",
    ),
    curves(
        "Requests in flight",
        "Being answered at the moment, scrapes included.",
        "none",
        Query(f"sum by (instance) ({select('captionist_http_requests_in_flight')})", "{{instance}}"),
    ),
    curves(
        "Requests given up",
        "A second: past their deadline, or their client is gone.",
        "reqps",
        Query(rate("captionist_abandoned_requests_total", by="reason"), "{{reason}}"),
        runbook="CaptionistLatencyBudgetBurn",
    ),
    curves(
        "Pictures in a batch, mean",
        "Batches grow as pictures wait. At the limit (CAPTIONIST_MAX_BATCH) there is nothing left to gain.",
        "none",
        Query(mean("captionist_batch_size_pictures", by="instance"), "{{instance}}"),
        Query(f"max({select('captionist_batch_limit_pictures')})", "limit"),
    ),
    curves(
        "Feedback store failures",
        "Feedback a second that could not be stored or read.",
        "reqps",
        Query(rate("captionist_feedback_store_failures_total"), "failures"),
        levels=((0.001, RED),),
        runbook="CaptionistFeedbackStoreFailing",
    ),
]
_BURN_TEXT = (
    "How many times faster than allowed the budget of 30 days is used up: at 1 it just lasts. "
    "The dashed lines: a ticket from 1 over three days, a page from 6 over six hours and from 14.4 over one."
)
_OBJECTIVES = [
    curves(
        f"Burn: errors (allowed: {100 * _ERRORS_ALLOWED} %)",
        _BURN_TEXT,
        "suffix:x",
        *_burns(_ERRORS, _ERRORS_ALLOWED),
        levels=_BURN_LEVELS,
        runbook="CaptionistErrorBudgetBurn",
    ),
    curves(
        f"Burn: captions slower than {_SLOW_SECONDS} s (allowed: {100 * _SLOW_ALLOWED:.0f} %)",
        _BURN_TEXT,
        "suffix:x",
        *_burns(_SLOW, _SLOW_ALLOWED),
        levels=_BURN_LEVELS,
        runbook="CaptionistLatencyBudgetBurn",
    ),
    curves(
        "Budget of 30 days used in the last 3",
        "The part of the month's budget that went in the last three days. Above a tenth it will not last the month.",
        "percentunit",
        Query(f"{_burn(_ERRORS, '3d', _ERRORS_ALLOWED)} * 3 / 30", "errors"),
        Query(f"{_burn(_SLOW, '3d', _SLOW_ALLOWED)} * 3 / 30", "slow captions"),
        levels=((0.1, YELLOW), (1, RED)),
    ),
]


def build() -> dashboard.Dashboard:
    """The dashboard."""
    rows: dict[str, Sequence[Panel]] = {
        "At a glance": _GLANCE,
        "Requests": _TRAFFIC,
        "Duration": _TIMES,
        "Saturation": _SATURATION,
        "Objectives": _OBJECTIVES,
    }
    return board("captionist-service", "Captionist: service", "Is the service well?", rows)
