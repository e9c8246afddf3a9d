"""Evaluates a captioner on the pictures of a corpus: captions, scores, and rows for the report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

from captionist.captioner import Captioner
from captionist.captions import Caption
from captionist.data import Example
from captionist.errors import ScoreError
from captionist.evaluation.calibration import Reliability, reliability
from captionist.evaluation.matching import Judge, OwnAlignment, add_clip_scores, embed
from captionist.evaluation.mistakes import Mistakes, count_mistakes
from captionist.evaluation.report import ReportRow
from captionist.evaluation.retrieval import Recall
from captionist.evaluation.scores import Scores, check_ids, cider_by_picture, score_captions
from captionist.inference.search import SearchOverrides
from captionist.inference.sharing import paired


@dataclass(frozen=True)
class Evaluation:
    """The results of a captioner.

    recall: of the model's own alignment, if it has one. rows: one for each captioned picture. failures: an error
    message for each picture that could not be read; such a picture is in no score. setting: which model, and the search
    it was run with. reliability: of the captions' confidence, if the model is calibrated.
    """

    scores: Scores
    recall: Recall | None
    rows: tuple[ReportRow, ...]
    failures: tuple[str, ...]
    setting: dict[str, Any]
    mistakes: Mistakes
    reliability: Reliability | None

    def to_json(self) -> str:
        """Setting, scores, failures, and every caption under its picture's id, as JSON."""
        content = self.setting | {
            "scores": self.scores.model_dump(mode="json"),
            "recall": self.recall and asdict(self.recall),
            "failures": self.failures,
            "mistakes": asdict(self.mistakes),
            "reliability": self.reliability and asdict(self.reliability),
            "captions": {row.id: row.candidate for row in self.rows},
        }
        return json.dumps(content, indent=2) + "\n"


def caption_examples(
    examples: Sequence[Example], captioner: Captioner, advance: Callable[[], None], **options: Unpack[SearchOverrides]
) -> tuple[dict[str, Caption], dict[str, str]]:
    """The captions of the examples that can be read, and the error messages of the others, by id.

    advance: called after each picture. Raises ScoreError if two have the same id, ValueError for wrong options.
    """
    check_ids(example.id for example in examples)
    captions: dict[str, Caption] = {}
    failures: dict[str, str] = {}
    results = captioner.caption_many((example.image for example in examples), **options)
    for example, result in paired(examples, results):
        if result.caption is None:
            failures[example.id] = str(result.error)
        else:
            captions[example.id] = result.caption
        advance()
    return captions, failures


def first_of(failures: Mapping[str, str]) -> str:
    """For the end of a message: the first of the errors, if there is one."""
    return next((f"; the first error is: {message}" for message in failures.values()), "")


def evaluate(
    examples: Sequence[Example],
    captioner: Captioner,
    advance: Callable[[], None] = lambda: None,
    clip: Judge | None = None,
    **options: Unpack[SearchOverrides],
) -> Evaluation:
    """Caption every example and score the captions against its references.

    advance: called after each picture, and once more if it is read by a CLIP or for the model's own alignment.
    clip: judges the captions instead of that alignment.
    options: see `SearchOptions`; those not given are the model's own.
    Raises ScoreError if no picture could be read, or two have the same id, ValueError for wrong options.
    """
    captions, failures = caption_examples(examples, captioner, advance, **options)
    if not captions:
        raise ScoreError(f"there is no picture to evaluate{first_of(failures)}")
    captioned = [example for example in examples if example.id in captions]
    candidates = {picture: caption.text for picture, caption in captions.items()}
    confidence = {picture: caption.confidence for picture, caption in captions.items()}
    references = {example.id: list(example.references) for example in captioned}
    cider = cider_by_picture(references, candidates)
    config, search = captioner.bundle.config, captioner.options(**options)
    own = embed(OwnAlignment(captioner), captioned, candidates, advance) if config.alignment else None
    scores = score_captions(references, candidates)
    if judged := embed(clip, captioned, candidates, advance) if clip else own:
        scores = add_clip_scores(scores, judged, search.match_weight)
    return Evaluation(
        scores=scores,
        recall=own.recall() if own else None,
        rows=tuple(
            ReportRow(e.id, e.image, candidates[e.id], e.references, cider[e.id], confidence[e.id]) for e in captioned
        ),
        failures=tuple(failures.values()),
        setting={
            "model": config.name,
            "version": config.version,
            "precision": config.precision,
            "search": search.model_dump(),
        },
        mistakes=count_mistakes(references, candidates),
        reliability=reliability(cider, confidence, config.calibration, references) if config.calibration else None,
    )
