"""A captioner on the pictures of a corpus: captions, scores, and rows for the report."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

from captionist.captioner import Captioner
from captionist.data import Example
from captionist.errors import ScoreError
from captionist.evaluation.report import ReportRow
from captionist.evaluation.scores import Scores, cider_by_picture, score_captions
from captionist.inference.search import SearchOverrides


@dataclass(frozen=True)
class Evaluation:
    """What a captioner reached.

    rows: one for each captioned picture. failures: an error message for each picture that could not be read; such a
    picture is in no score. setting: which model, and the search it was run with.
    """

    scores: Scores
    rows: tuple[ReportRow, ...]
    failures: tuple[str, ...]
    setting: dict[str, Any]

    def to_json(self) -> str:
        """Setting, scores, failures and every caption by its picture's id."""
        content = self.setting | {
            "scores": self.scores.model_dump(mode="json"),
            "failures": self.failures,
            "captions": {row.id: row.candidate for row in self.rows},
        }
        return json.dumps(content, indent=2) + "\n"


def evaluate(
    examples: Sequence[Example],
    captioner: Captioner,
    advance: Callable[[], None] = lambda: None,
    **options: Unpack[SearchOverrides],
) -> Evaluation:
    """Caption every example and score the captions against its references.

    advance: called after each picture. options: see `SearchOptions`; those not given are the model's own.
    Raises ScoreError if not one picture could be read, ValueError for wrong options.
    """
    candidates: dict[str, str] = {}
    failures: list[str] = []
    results = captioner.caption_many((example.image for example in examples), **options)
    for example, result in zip(examples, results, strict=True):
        if result.caption is None:
            failures.append(str(result.error))
        else:
            candidates[example.id] = result.caption.text
        advance()
    if not candidates:
        raise ScoreError(f"none of the {len(failures)} pictures could be read; the first error is: {failures[0]}")
    captioned = [example for example in examples if example.id in candidates]
    references = {example.id: list(example.references) for example in captioned}
    cider = cider_by_picture(references, candidates)
    config = captioner.bundle.config
    return Evaluation(
        scores=score_captions(references, candidates),
        rows=tuple(ReportRow(e.id, e.image, candidates[e.id], e.references, cider[e.id]) for e in captioned),
        failures=tuple(failures),
        setting={
            "model": config.name,
            "version": config.version,
            "precision": config.precision,
            "search": asdict(captioner.defaults.override(**options)),
        },
    )
