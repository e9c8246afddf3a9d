"""When alerts fire, and when they stay silent: what Prometheus sees, and what it should say then."""

from typing import NamedTuple


class Expected(NamedTuple):
    """Whether an alert fires at a time; where: more of its labels, as in `window="1h"`."""

    at: str
    alert: str
    fires: bool
    where: str = ""


class Case(NamedTuple):
    """interval: between the values of the series, which are in promtool's notation (0+90x30: 30 times 90 more)."""

    name: str
    interval: str
    series: dict[str, str]
    expected: list[Expected]


def requests(answered: str, failed: str) -> dict[str, str]:
    """Of captions; failed: those that were answered with 500."""
    return {
        'captionist_http_requests_total{job="captionist",route="/v1/captions",method="POST",status="200"}': answered,
        'captionist_http_requests_total{job="captionist",route="/v1/captions",method="POST",status="500"}': failed,
    }


def durations(fast: str, all_: str) -> dict[str, str]:
    """Of captions; fast: those that took at most 2.5 seconds."""
    name, labels = "captionist_http_request_duration_seconds", 'job="captionist",route="/v1/captions",status="200"'
    return {f'{name}_bucket{{{labels},le="2.5"}}': fast, f"{name}_count{{{labels}}}": all_}


def confidence(total: str, captions: str) -> dict[str, str]:
    name = "captionist_caption_confidence_ratio"
    return {f'{name}_sum{{job="captionist"}}': total, f'{name}_count{{job="captionist"}}': captions}


def ratings(good: str, bad: str) -> dict[str, str]:
    name = "captionist_feedback_total"
    return {f'{name}{{job="captionist",rating="good"}}': good, f'{name}{{job="captionist",rating="bad"}}': bad}


def repeated(share: str, pictures: str) -> dict[str, str]:
    return {
        'captionist_repeated_captions_ratio{job="captionist",instance="a"}': share,
        'captionist_pictures_total{job="captionist",outcome="captioned"}': pictures,
    }


def refused(reason: str) -> dict[str, str]:
    """One request in ten."""
    return requests("0+90x30", "0x30") | {
        f'captionist_rejections_total{{job="captionist",reason="{reason}"}}': "0+10x30"
    }


def instances(metric: str, **values: str) -> dict[str, str]:
    return {f'{metric}{{job="captionist",instance="{name}"}}': value for name, value in values.items()}


STORE = 'captionist_feedback_store_failures_total{job="captionist"}'
ERRORS, SLOW = "CaptionistErrorBudgetBurn", "CaptionistLatencyBudgetBurn"
PAGE, HOUR, QUARTER, DAYS = 'severity="page"', 'window="1h"', 'window="6h"', 'window="3d"'

CASES = [
    Case("one in ten fails, and both fast windows page", "1m", requests("0+90x420", "0+10x420"),
         [Expected("80m", ERRORS, True, HOUR), Expected("7h", ERRORS, True, QUARTER)]),
    Case("a burst of failures that has ended", "1m", requests("0+100x400", "0+100x10 1000x390"),
         [Expected("30m", ERRORS, False, HOUR)]),
    Case("no traffic is no failure", "1m", requests("0x600", "0x600"), [Expected("9h", ERRORS, False)]),
    Case("two in a hundred fail for days, and only tickets are filed", "30m", requests("0+9800x200", "0+200x200"),
         [Expected("40h", ERRORS, False, PAGE), Expected("40h", ERRORS, True, DAYS)]),
    Case("one in a thousand fails, which is allowed", "30m", requests("0+9990x200", "0+10x200"),
         [Expected("90h", ERRORS, False)]),
    Case("nearly all are slow, and both fast windows page", "1m", durations("0+10x420", "0+100x420"),
         [Expected("80m", SLOW, True, HOUR), Expected("7h", SLOW, True, QUARTER)]),
    Case("a fifth is slow for days, and only tickets are filed", "30m", durations("0+800x200", "0+1000x200"),
         [Expected("40h", SLOW, False, PAGE), Expected("40h", SLOW, True, DAYS)]),
    Case("one in fifty is slow, which is allowed", "30m", durations("0+980x200", "0+1000x200"),
         [Expected("90h", SLOW, False)]),

    Case("captions that grow less sure", "30m", confidence("0+60x340 20400+40x100", "0+100x440"),
         [Expected("165h", "CaptionistConfidenceDrift", False), Expected("196h", "CaptionistConfidenceDrift", True)]),
    Case("captions that stay as sure", "30m", confidence("0+60x440", "0+100x440"),
         [Expected("196h", "CaptionistConfidenceDrift", False)]),
    Case("too few captions to judge by", "30m", confidence("0+0.6x340 204+0.4x100", "0+1x440"),
         [Expected("196h", "CaptionistConfidenceDrift", False)]),
    Case("people who accept less", "30m", ratings("0+8x340 2720+4x100", "0+2x340 680+6x100"),
         [Expected("165h", "CaptionistAcceptanceDrift", False), Expected("196h", "CaptionistAcceptanceDrift", True)]),
    Case("people who accept as much", "30m", ratings("0+8x440", "0+2x440"),
         [Expected("196h", "CaptionistAcceptanceDrift", False)]),
    Case("one caption for all", "1m", repeated("0.99x60", "0+60x60"),
         [Expected("20m", "CaptionistRepeatsItself", False), Expected("45m", "CaptionistRepeatsItself", True)]),
    Case("captions that differ", "1m", repeated("0.3x60", "0+60x60"),
         [Expected("45m", "CaptionistRepeatsItself", False)]),
    Case("one caption again and again, and nobody asks", "1m", repeated("0.99x60", "0x60"),
         [Expected("45m", "CaptionistRepeatsItself", False)]),

    Case("traffic that stops, unlike yesterday and a week ago", "2m", requests("0+40x5220 208800x300", "0x5520"),
         [Expected("174h", "CaptionistNoTraffic", False), Expected("176h", "CaptionistNoTraffic", True)]),
    Case("a night that is always quiet", "30m", requests("0x400", "0x400"),
         [Expected("180h", "CaptionistNoTraffic", False)]),
    Case("a task that cannot be scraped", "1m", instances("up", a="1x5 0x10", b="1x15"),
         [Expected("6m", "CaptionistDown", False), Expected("9m", "CaptionistDown", True, 'instance="a"'),
          Expected("9m", "CaptionistDown", False, 'instance="b"'), Expected("9m", "CaptionistAbsent", False)]),
    Case("no task at all", "1m", instances("up", a="1x5 stale"),
         [Expected("4m", "CaptionistAbsent", False), Expected("12m", "CaptionistAbsent", True)]),
    Case("a task that starts again and again, beside one that was deployed once", "1m",
         instances("process_start_time_seconds", a="1x2 2x2 3x2 4x20", b="1x5 2x20"),
         [Expected("9m", "CaptionistCrashLoop", True, 'instance="a"'),
          Expected("9m", "CaptionistCrashLoop", False, 'instance="b"'),
          Expected("25m", "CaptionistCrashLoop", False)]),
    Case("a service that is full", "1m", refused("queue_full"),
         [Expected("8m", "CaptionistSaturated", False), Expected("20m", "CaptionistSaturated", True)]),
    Case("refusals for want of a key", "1m", refused("unauthorized"), [Expected("20m", "CaptionistSaturated", False)]),
    Case("a store that fails, then works again", "1m", {STORE: "0+1x15 15x20"},
         [Expected("12m", "CaptionistFeedbackStoreFailing", True),
          Expected("30m", "CaptionistFeedbackStoreFailing", False)]),
    Case("a single failure of the store", "1m", {STORE: "0x10 1x20"},
         [Expected("12m", "CaptionistFeedbackStoreFailing", False),
          Expected("20m", "CaptionistFeedbackStoreFailing", False)]),
]  # fmt: skip
