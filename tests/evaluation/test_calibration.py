"""Confidence: the fit finds the law behind the data, and holds on the half that it has not seen."""

import math

import numpy as np
import pytest

from captionist.bundle import Calibration
from captionist.evaluation.calibration import FEWEST_PICTURES, calibrate, calibrates, reliability

INTERCEPT, SLOPE = 1.5, 2.0
PICTURES = [f"picture-{number}.jpg" for number in range(3000)]
# Of each picture's references three say the same and one speaks of something else, as a quarter of people do.
REFERENCES = {
    picture: [f"a dog with number {number} runs"] * 3 + [f"{number + 1} clouds"]
    for number, picture in enumerate(PICTURES)
}


@pytest.fixture(scope="module")
def world() -> tuple[dict[str, float], dict[str, float]]:
    """CIDEr-D and token probability of captions whose acceptance follows the logistic law above."""
    drawn = np.random.default_rng(0)
    probability = {picture: float(drawn.uniform(0.2, 0.9)) for picture in PICTURES}
    chance = {p: 1 / (1 + math.exp(-INTERCEPT - SLOPE * math.log(value))) for p, value in probability.items()}
    return {p: 1000.0 if drawn.random() < chance[p] else 0.0 for p in PICTURES}, probability


def confidence_of(calibration: Calibration, probability: dict[str, float]) -> dict[str, float]:
    return {p: calibration.confidence(math.log(value)) for p, value in probability.items()}


def test_half_of_the_pictures_calibrate() -> None:
    share = sum(map(calibrates, PICTURES)) / len(PICTURES)
    assert 0.45 < share < 0.55


def test_the_fit_finds_the_law(world: tuple[dict[str, float], dict[str, float]]) -> None:
    cider, probability = world
    calibration = calibrate(REFERENCES, cider, probability)
    assert calibration is not None
    assert calibration.intercept == pytest.approx(INTERCEPT, abs=0.35)
    assert calibration.slope == pytest.approx(SLOPE, abs=0.5)
    assert 0 < calibration.accepted_cider < 1000


def test_only_the_calibrating_half_counts(world: tuple[dict[str, float], dict[str, float]]) -> None:
    cider, probability = world
    turned = {p: value if calibrates(p) else 1000 - value for p, value in cider.items()}
    assert calibrate(REFERENCES, turned, probability) == calibrate(REFERENCES, cider, probability)


def test_reliability_looks_at_the_other_half_only(world: tuple[dict[str, float], dict[str, float]]) -> None:
    cider, probability = world
    calibration = calibrate(REFERENCES, cider, probability)
    assert calibration is not None
    found = reliability(cider, confidence_of(calibration, probability), calibration)
    assert found is not None
    assert sum(group.captions for group in found.bins) == sum(not calibrates(p) for p in PICTURES)
    assert found.error < 0.06
    assert 0.55 < found.discrimination < 0.9
    spoilt = {p: 1000 - value if calibrates(p) else value for p, value in cider.items()}
    assert reliability(spoilt, confidence_of(calibration, probability), calibration) == found


def test_false_confidence_shows(world: tuple[dict[str, float], dict[str, float]]) -> None:
    cider, probability = world
    boastful = Calibration(intercept=4, slope=0.1, accepted_cider=50)
    found = reliability(cider, confidence_of(boastful, probability), boastful)
    assert found is not None
    assert found.error > 0.2


def test_too_few_pictures_or_only_one_kind_calibrate_nothing(world: tuple[dict[str, float], dict[str, float]]) -> None:
    cider, probability = world
    few = {p: cider[p] for p in PICTURES[: FEWEST_PICTURES // 2]}
    assert calibrate(REFERENCES, few, probability) is None
    assert calibrate(REFERENCES, dict.fromkeys(PICTURES, 1e9), probability) is None
    assert calibrate({p: REFERENCES[p][:1] for p in PICTURES}, cider, probability) is None
    law = Calibration(intercept=0, slope=1, accepted_cider=1)
    assert reliability(few, probability, law) is None
    assert reliability(dict.fromkeys(PICTURES, 0.0), probability, law) is None
