"""Are the captions any good? Their length, confidence and repetition, what people say about them, model by model."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.parts import GREEN, ORANGE, RED, Panel, Query, board, curves, listing, number, spread
from deploy.grafana.promql import MODEL, increase, mean, quantile, rate, ratio, recorded, select

_WORDS, _CONFIDENCE, _LOG = (
    "captionist_caption_words",
    "captionist_caption_confidence_ratio",
    "captionist_caption_log_probability",
)
_FEEDBACK, _CORRECTIONS, _PICTURES = (
    "captionist_feedback_total",
    "captionist_feedback_corrections_total",
    "captionist_pictures_total",
)
_NAME = "{{model}} {{model_version}}"
_GOOD = 'rating="good"'
_ALL = "$__range"


def _quantiles(histogram: str) -> list[Query]:
    return [Query(quantile(q, histogram), f"p{100 * q:.0f}") for q in (0.9, 0.5, 0.1)]


_GLANCE = [
    number("Captions", "Written in the time shown.", "short", increase(f"{_WORDS}_count"), decimals=0),
    number("Words, mean", "Length of captions in the time shown.", "none", mean(_WORDS, window=_ALL), decimals=1),
    number(
        "Confidence, mean",
        "The estimated chance that a person would accept the caption; the model card says how it was calibrated.",
        "percentunit",
        mean(_CONFIDENCE, window=_ALL),
        decimals=0,
        runbook="CaptionistConfidenceDrift",
    ),
    number(
        "Accepted",
        "Share of feedback in the time shown that rates the caption as good.",
        "percentunit",
        ratio(increase(_FEEDBACK, _GOOD), increase(_FEEDBACK)),
        ((None, RED), (0.5, ORANGE), (0.7, GREEN)),
        decimals=0,
        runbook="CaptionistAcceptanceDrift",
    ),
    number(
        "Corrections",
        "Received in the time shown; they can be trained on.",
        "short",
        increase(_CORRECTIONS),
        decimals=0,
    ),
    number(
        "Repeated captions",
        "Share of each task's last 200 captions that somebody else got as well; the worst task.",
        "percentunit",
        f"max({select('captionist_repeated_captions_ratio')})",
        ((None, GREEN), (0.8, ORANGE), (0.95, RED)),
        decimals=0,
        runbook="CaptionistRepeatsItself",
    ),
]
_MODELS = [
    curves(
        "Captions by model",
        "Captions a second, by the model and version that wrote them: who serves what during a rollout.",
        "suffix:/s",
        Query(rate(f"{_WORDS}_count", by=MODEL), _NAME),
        stacked=True,
    ),
    curves(
        "Pictures by outcome",
        "Pictures a second. Refused are those that could not be read.",
        "suffix:/s",
        Query(rate(_PICTURES, by="outcome"), "{{outcome}}"),
        stacked=True,
    ),
    listing(
        "Models in service",
        "How many tasks run which release and model.",
        Query(f"count by (version, model, model_version, precision, python) ({select('captionist_build_info')})"),
        columns=("model", "model_version", "precision", "version", "python"),
        value="tasks",
        width=8,
    ),
]
_LENGTH = [
    curves("Length", "Words in a caption.", "none", *_quantiles(_WORDS)),
    curves(
        "Length by model",
        "Mean words in a caption.",
        "none",
        Query(mean(_WORDS, by=MODEL), _NAME),
    ),
    curves(
        "Repetition",
        "Share of a task's last 200 captions that are not the first of their kind. At the red line nearly all pictures "
        "get the same caption.",
        "percentunit",
        Query(select("captionist_repeated_captions_ratio"), "{{instance}}"),
        levels=((0.95, RED),),
        high=1,
        runbook="CaptionistRepeatsItself",
    ),
]
_CERTAINTY = [
    curves(
        "Confidence",
        "Geometric mean of a caption's token probabilities.",
        "percentunit",
        *_quantiles(_CONFIDENCE),
        high=1,
        runbook="CaptionistConfidenceDrift",
    ),
    curves(
        "Confidence by model",
        "Mean. A new version that is less sure than the old one at the same time is worse, whatever the pictures are.",
        "percentunit",
        Query(mean(_CONFIDENCE, by=MODEL), _NAME),
        high=1,
        runbook="CaptionistConfidenceDrift",
    ),
    spread(
        "Confidence, spread",
        "How many captions fell into each tenth.",
        "percentunit",
        Query(rate(f"{_CONFIDENCE}_bucket", by="le"), "{{le}}"),
    ),
    curves(
        "Log probability",
        "Natural logarithm of the whole caption's probability; longer captions have lower ones.",
        "none",
        *_quantiles(_LOG),
        low=None,
    ),
    curves(
        "Log probability by model",
        "Median.",
        "none",
        Query(quantile(0.5, _LOG, by=MODEL), _NAME),
        low=None,
    ),
    curves(
        "Confidence, against a week ago",
        "Mean of a day. Below the dashed line, 85 % of last week's, an alert fires.",
        "percentunit",
        Query(recorded("job:captionist_caption_confidence:mean1d"), "last 24 h"),
        Query(f"{recorded('job:captionist_caption_confidence:mean1d')} offset 1w", "a week ago"),
        high=1,
        runbook="CaptionistConfidenceDrift",
    ),
]
_OPINIONS = [
    curves(
        "Feedback by rating",
        "Received a minute.",
        "suffix:/min",
        Query(f"60 * {rate(_FEEDBACK, by='rating')}", "{{rating}}"),
        stacked=True,
    ),
    curves(
        "Acceptance by model",
        "Share of feedback, in as long as is shown here, that rates the caption as good; by the model that wrote it.",
        "percentunit",
        Query(ratio(rate(_FEEDBACK, _GOOD, MODEL, _ALL), rate(_FEEDBACK, "", MODEL, _ALL)), _NAME),
        high=1,
        runbook="CaptionistAcceptanceDrift",
    ),
    curves(
        "Acceptance, against a week ago",
        "Share of a day's feedback that rates the caption as good. 15 points below last week's an alert fires.",
        "percentunit",
        Query(recorded("job:captionist_feedback_accepted:ratio1d"), "last 24 h"),
        Query(f"{recorded('job:captionist_feedback_accepted:ratio1d')} offset 1w", "a week ago"),
        high=1,
        runbook="CaptionistAcceptanceDrift",
    ),
    curves(
        "Corrections received",
        "Received a minute.",
        "suffix:/min",
        Query(f"60 * {rate(_CORRECTIONS)}", "corrections"),
    ),
    curves(
        "Corrections by model",
        "Share of feedback, in as long as is shown here, that came with a better caption.",
        "percentunit",
        Query(ratio(rate(_CORRECTIONS, "", MODEL, _ALL), rate(_FEEDBACK, "", MODEL, _ALL)), _NAME),
        high=1,
    ),
    curves(
        "Feedback on captions",
        "Feedback received for each caption written, in as long as is shown here: how many care to say something.",
        "percentunit",
        Query(ratio(increase(_FEEDBACK), increase(f"{_WORDS}_count")), "feedback"),
    ),
]


def build() -> dashboard.Dashboard:
    """The dashboard."""
    rows: dict[str, Sequence[Panel]] = {
        "At a glance": _GLANCE,
        "Models": _MODELS,
        "Length and repetition": _LENGTH,
        "Certainty": _CERTAINTY,
        "What people say": _OPINIONS,
    }
    return board("captionist-quality", "Captionist: model quality", "Are the captions any good?", rows)
