"""Confidence that can be trusted: turns a caption's probability into the chance that a person would accept it.

Nobody was asked. Instead, a stated proxy: a caption counts as acceptable if its CIDEr-D against the references is at
least what three of four people's captions reach against the other references of their picture.

Half of the pictures calibrate, and the other half shows how well that worked; a picture's id decides its half, so no
picture is ever in both.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionist.bundle import Calibration
from captionist.evaluation.bootstrap import FloatArray
from captionist.evaluation.cider import CiderD
from captionist.evaluation.tokenize import tokenize

_UNACCEPTED_PEOPLE = 25.0  # per cent of people's captions that the proxy rejects
_RIDGE = 1e-3  # keeps the fit finite if a few captions are separated perfectly
_STRONG_RIDGE = 3.0  # for many inputs of unit deviation and few pictures
_BINS = 8
FEWEST_PICTURES = 200
"""With fewer pictures, neither a calibration nor a plot of its reliability would say much."""
_FEWEST_RANKED = FEWEST_PICTURES // 2


@dataclass(frozen=True)
class Bin:
    """Captions of similar confidence: their mean confidence, the share that is acceptable, and their number."""

    confidence: float
    accepted: float
    captions: int


@dataclass(frozen=True)
class Reliability:
    """How reliable confidence is, on pictures that were not used to calibrate it.

    bins: equally filled, the least confident first. error: the expected calibration error (Naeini et al. 2015), the
    mean distance between a bin's confidence and its accepted share. discrimination: the chance that, of one acceptable
    and one other caption, the acceptable one has the higher confidence (the area under the ROC curve).
    """

    bins: tuple[Bin, ...]
    error: float
    discrimination: float
    accepted_cider: float

    def line(self) -> str:
        """The figures in words."""
        captions = sum(group.captions for group in self.bins)
        return (
            f"confidence, on {captions:,} pictures that calibrated nothing: expected calibration error "
            f"{self.error:.3f}; acceptable captions are the more confident in {self.discrimination:.0%} of cases"
        )


def calibrates(picture: str) -> bool:
    """Whether the picture of this id is in the half that calibrates."""
    return hashlib.sha256(picture.encode()).digest()[0] % 2 == 0


def calibrate(
    references: Mapping[str, Sequence[str]], cider: Mapping[str, float], token_probability: Mapping[str, float]
) -> Calibration | None:
    """Fit a bundle's calibration (Platt 1999: a logistic regression on one variable) on half of the pictures.

    Args, by picture id: references; the captions' CIDEr-D times 100; the geometric mean of their tokens' probabilities
    (`Caption.confidence` in a bundle that has no calibration yet). None if too few pictures have more than one
    reference, or if all captions or none are acceptable.
    """
    pictures = sorted(filter(calibrates, cider))
    groups = [references[picture] for picture in pictures if len(references[picture]) > 1]
    if len(groups) < FEWEST_PICTURES // 2:
        return None
    accepted_cider = _accepted_cider(groups)
    accepted = np.array([cider[picture] >= accepted_cider for picture in pictures], dtype=np.float64)
    if accepted.min() == accepted.max():
        return None
    logs = np.log(np.maximum([token_probability[picture] for picture in pictures], 1e-12))
    intercept, slope = _logistic_regression(np.column_stack([np.ones_like(logs), logs]), accepted)
    return Calibration(intercept=intercept, slope=slope, accepted_cider=accepted_cider)


@dataclass(frozen=True)
class Ranked:
    """The candidates of a picture, best first: what is known of each (`Hypothesis.evidence`), its CIDEr-D times 100."""

    picture: str
    evidence: Sequence[Mapping[str, float]]
    cider: Sequence[float]


def calibrate_ranked(corpora: Sequence[tuple[Mapping[str, Sequence[str]], Sequence[Ranked]]]) -> Calibration | None:
    """Fit the calibration of a model that ranks captions, on half of the pictures of several corpora of equal weight.

    What makes a caption acceptable is learnt from all candidates, which are far more than the pictures; how sure one
    may be of the best ones, only from those. corpora: for each, the references by picture id, and what was ranked. None
    as in `calibrate`, if that is so for one of the corpora.
    """
    rows: list[tuple[Ranked, float, float]] = []  # candidates, the CIDEr-D from which they are acceptable, weight
    for references, ranked in corpora:
        half = [each for each in ranked if calibrates(each.picture)]
        groups = [references[each.picture] for each in half if len(references[each.picture]) > 1]
        if len(groups) < _FEWEST_RANKED:
            return None
        least = _accepted_cider(groups)
        rows += [(each, least, 1 / (len(corpora) * len(half))) for each in half]
    names = list(rows[0][0].evidence[0])
    known = np.array([[evidence[name] for name in names] for each, *_ in rows for evidence in each.evidence])
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
    inputs = np.column_stack([np.ones(len(known)), (known - mean) / deviation])
    accepted = np.array([cider >= least for each, least, _ in rows for cider in each.cider], dtype=np.float64)
    sizes = [len(each.cider) for each, *_ in rows]
    weights = np.array([weight * len(rows) for *_, weight in rows])
    first = np.cumsum([0, *sizes[:-1]])
    if accepted[first].min() == accepted[first].max():
        return None
    learnt = np.array(_logistic_regression(inputs, accepted, np.repeat(weights / sizes, sizes), _STRONG_RIDGE))
    logits = np.column_stack([np.ones(len(rows)), inputs[first] @ learnt])
    shift, slope = _logistic_regression(logits, accepted[first], weights)
    slopes = slope * learnt[1:] / deviation
    return Calibration(
        intercept=float(shift + slope * learnt[0] - slopes @ mean),
        slope=0.0,
        accepted_cider=float(np.average([least for _, least, _ in rows], weights=weights)),
        weights=dict(zip(names, map(float, slopes), strict=True)),
    )


def reliability(
    cider: Mapping[str, float],
    confidence: Mapping[str, float],
    calibration: Calibration,
    references: Mapping[str, Sequence[str]] | None = None,
) -> Reliability | None:
    """Compare confidence with the proxy on the other half; None if that half is too small or all of one kind.

    references: if the corpus is not the one that calibrated; the bar for acceptable captions is then measured again.
    """
    pictures = sorted(picture for picture in cider if not calibrates(picture))
    groups = [references[picture] for picture in pictures if len(references[picture]) > 1] if references else []
    least = _accepted_cider(groups) if len(groups) >= FEWEST_PICTURES // 2 else calibration.accepted_cider
    accepted = np.array([cider[picture] >= least for picture in pictures])
    if len(pictures) < FEWEST_PICTURES // 2 or accepted.min() == accepted.max():
        return None
    claimed = np.array([confidence[picture] for picture in pictures])
    order = np.argsort(claimed, kind="stable")
    bins = tuple(
        Bin(float(claimed[rows].mean()), float(accepted[rows].mean()), len(rows))
        for rows in np.array_split(order, _BINS)
    )
    error = sum(b.captions * abs(b.confidence - b.accepted) for b in bins) / len(pictures)
    return Reliability(bins, error, _discrimination(claimed, accepted), least)


def _accepted_cider(references: Sequence[Sequence[str]]) -> float:
    """The CIDEr-D times 100 that three of four references reach against the others of their picture."""
    groups = [[tokenize(text) for text in group] for group in references]
    left_out = [(group[i], group[:i] + group[i + 1 :]) for group in groups for i in range(len(group))]
    scores = CiderD(groups).score([words for words, _ in left_out], [others for _, others in left_out])
    return float(np.percentile(100 * scores, _UNACCEPTED_PEOPLE))


def _logistic_regression(
    inputs: FloatArray, accepted: FloatArray, counts: FloatArray | float = 1.0, ridge: float = _RIDGE
) -> tuple[float, ...]:
    """The weights of inputs [N, K] that make accepted [N] likeliest, by Newton's method. counts: [N], of each row."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (counts * (chance - accepted)) + ridge * weights
        curvature = (inputs.T * (counts * chance * (1 - chance))) @ inputs + ridge * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, gradient)
    return tuple(map(float, weights))


def _discrimination(claimed: FloatArray, accepted: NDArray[np.bool_]) -> float:
    difference = claimed[accepted][:, None] - claimed[~accepted][None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)
