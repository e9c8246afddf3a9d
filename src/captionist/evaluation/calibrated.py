"""A bundle's confidence, calibrated on a corpus."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

from captionist import bundle as bundles
from captionist.bundle import Bundle, Calibration
from captionist.captioner import Captioner
from captionist.data import Example
from captionist.errors import BundleError
from captionist.evaluation.calibration import FEWEST_PICTURES, Reliability, calibrate, reliability
from captionist.evaluation.evaluate import evaluate
from captionist.evaluation.report import ReportRow


def calibrate_rows(rows: Sequence[ReportRow]) -> tuple[Calibration, Reliability | None] | None:
    """A calibration from half of the pictures of a bundle that has none yet, and its reliability on the other half.

    None as in `calibrate`; Reliability None as in `reliability`.
    """
    cider = {row.id: row.cider for row in rows}
    probability = {row.id: row.confidence for row in rows}
    calibration = calibrate({row.id: row.references for row in rows}, cider, probability)
    if calibration is None:
        return None
    confidence = {picture: calibration.confidence(math.log(value)) for picture, value in probability.items()}
    return calibration, reliability(cider, confidence, calibration)


def calibrate_model(
    bundle: Bundle, examples: Sequence[Example], advance: Callable[[], None] = lambda: None
) -> Reliability | None:
    """Calibrate a bundle in place, whether it already was or not; returns the reliability, as `calibrate_rows` does.

    advance: called after each picture. Raises BundleError if the bundle ranks captions, if the pictures do not allow a
    calibration, or if the bundle cannot be written.
    """
    if bundle.config.bank is not None:
        raise BundleError(
            f"{bundle.path} ranks captions, and is calibrated together with its ranker: export it from its run again"
        )
    plain = Captioner(Bundle(bundle.path, bundle.config.model_copy(update={"calibration": None})))
    found, scores = calibrate_rows(evaluate(examples, plain, advance).rows), dict(bundle.scores)
    if found is None:
        raise BundleError(
            f"these {len(examples):,} pictures are not enough to calibrate with: use {FEWEST_PICTURES} or more, with "
            "several captions each, some of which the model meets and some it misses"
        )
    calibration, told = found
    scores.pop("reliability", None)
    try:
        bundles.write_config(bundle.path, bundle.config.model_copy(update={"calibration": calibration}))
        scores |= {"reliability": asdict(told)} if told else {}
        (bundle.path / bundles.SCORES).write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        bundles.write_checksums(bundle.path)
    except OSError as error:
        raise BundleError(f"{bundle.path} cannot be written ({error.strerror}): check its permissions") from error
    return told
