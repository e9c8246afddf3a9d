"""Teaches a bundle that has a bank of sentences to choose: its ranker, and how sure one may be of the choice.

It learns from the halves of the corpora that calibrate confidence (see `evaluation.calibration`); the other halves show
what was gained.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from captionist import bundle as bundles
from captionist.bundle import Calibration
from captionist.captioner import Captioner
from captionist.data import Example
from captionist.errors import ImageError, ScoreError
from captionist.evaluation.calibration import Ranked, calibrate_ranked, calibrates, reliability
from captionist.evaluation.cider import CiderD
from captionist.evaluation.ranking import Contest, Setting, choose, fit_ranker
from captionist.evaluation.tokenize import tokenize
from captionist.inference.candidates import FEATURES
from captionist.inference.choice import rank
from captionist.inference.hypotheses import Hypothesis
from captionist.inference.ranker import Ranker

SETTINGS = (
    Setting(),
    Setting(decay=0.3),
    Setting(hidden=16),
    Setting(hidden=0, nets=1, steps=200),
)
"""Cross-fitting chooses among these: the first, unless another is clearly better."""
_CLEARLY = 1.0  # CIDEr-D; with a few hundred pictures, less is chance
_FEWEST = 4  # pictures per corpus to learn from


def add_ranker(directory: Path, corpora: Mapping[str, Sequence[Example]], retrieved: int = 10) -> dict[str, Any]:
    """Fit the ranker and the confidence of a bundle that has a bank, and write both into it.

    corpora: by name, pictures that no part of the model was trained on; half of each is learnt from. retrieved: how
    many sentences compete for a picture. Returns what to add to scores.json. Raises BundleError if the bundle has no
    bank, ScoreError if a corpus has too few pictures.
    """
    captioner = Captioner(directory)
    contests = [c for name, examples in corpora.items() for c in collect(captioner, examples, name, retrieved)]
    learnt = [contest for contest in contests if calibrates(contest.picture)]
    kept = [contest for contest in contests if not calibrates(contest.picture)]
    for name in corpora:
        if sum(c.corpus == name for c in learnt) < _FEWEST or not any(c.corpus == name for c in kept):
            raise ScoreError(f"{name} has too few pictures to fit a ranker on: pass a corpus of at least {4 * _FEWEST}")
    reached = {setting: _mean(_cross_fitted(learnt, setting)) for setting in SETTINGS}
    first, best = SETTINGS[0], max(SETTINGS, key=lambda setting: reached[setting])
    setting = best if reached[best] > reached[first] + _CLEARLY else first
    ranker = fit_ranker(learnt, FEATURES, setting)
    ranker.save(directory)
    # A ranker is too sure about pictures that it learnt from, and so would its evidence be: these are cross-fitted.
    ranked = [*_cross_fitted(learnt, setting), *((contest, rank(ranker, contest.candidates)) for contest in kept)]
    judged = {name: [_judged(*each) for each in ranked if each[0].corpus == name] for name in corpora}
    references = {name: {example.id: example.references for example in corpora[name]} for name in corpora}
    calibration = calibrate_ranked([(references[name], judged[name]) for name in corpora])
    config = captioner.bundle.config
    assert config.bank is not None
    update = {
        "bank": config.bank.model_copy(update={"ranked": True}),
        "search": config.search.override(match_weight=0.0, retrieved=retrieved),
        "calibration": calibration,
    }
    bundles.write_config(directory, config.model_copy(update=update))
    bundles.write_checksums(directory)
    told = {
        name: _gain(ranker, [c for c in kept if c.corpus == name])
        | {"reliability": _reliable(judged[name], references[name], calibration)}
        for name in corpora
    }
    return {"ranking": {"setting": asdict(setting), "corpora": told}}


def _reliable(
    ranked: Sequence[Ranked], references: Mapping[str, Sequence[str]], calibration: Calibration | None
) -> dict[str, Any] | None:
    """How well the confidence in a corpus's best captions is borne out."""
    if calibration is None:
        return None
    cider = {each.picture: each.cider[0] for each in ranked}
    confidence = {each.picture: calibration.confidence(0.0, each.evidence[0]) for each in ranked}
    found = reliability(cider, confidence, calibration, references)
    return asdict(found) if found else None


def collect(captioner: Captioner, examples: Sequence[Example], corpus: str, retrieved: int) -> list[Contest]:
    """What competes for the pictures of a corpus, with `retrieved` sentences each; unreadable pictures are left out.

    Raises BundleError if the model has no bank, ScoreError if no picture is left.
    """
    references = [[tokenize(text) for text in example.references] for example in examples]
    cider = CiderD(references)
    options = captioner.defaults.override(retrieved=retrieved)
    contests = []
    for example, known in zip(examples, references, strict=True):
        try:
            encoding = captioner.encode([captioner.prepare(example.image)])
        except ImageError:
            continue
        [candidates] = captioner.candidates(encoding, options)
        words = [tokenize(text) for text in candidates.texts]
        values = 100 * cider.score(words, [known] * len(words))
        contests.append(Contest(example.id, corpus, candidates, values.astype(np.float32)))
    return contests


_RankedContest = tuple[Contest, list[tuple[int, Hypothesis]]]


def _cross_fitted(contests: Sequence[Contest], setting: Setting) -> list[_RankedContest]:
    """Each half of the contests, ranked by what was learnt from the other half."""
    ranked = []
    for side in (0, 1):
        learnt = [contest for contest in contests if _side(contest.picture) == side]
        ranker = fit_ranker(learnt, FEATURES, setting)
        ranked += [(c, rank(ranker, c.candidates)) for c in contests if _side(c.picture) != side]
    return ranked


def _mean(ranked: Sequence[_RankedContest]) -> float:
    """The CIDEr-D of the top-ranked captions: the mean over corpora, however many pictures each has."""
    values: dict[str, list[float]] = {}
    for contest, order in ranked:
        values.setdefault(contest.corpus, []).append(float(contest.values[order[0][0]]))
    return float(np.mean([np.mean(each) for each in values.values()]))


def _judged(contest: Contest, order: Sequence[tuple[int, Hypothesis]]) -> Ranked:
    evidence = [caption.evidence for _, caption in order]
    return Ranked(contest.picture, evidence, [float(contest.values[place]) for place, _ in order])


def _side(picture: str) -> int:
    return hashlib.sha256(picture.encode()).digest()[1] % 2


def _gain(ranker: Ranker, contests: Sequence[Contest]) -> dict[str, Any]:
    """What a ranker gains on pictures that it has not learnt from, by CIDEr-D times 100.

    pictures: how many. beam: of the first beam; chosen: of the ranker's choice; best: of the best candidate. written:
    how often one of the decoder's own captions is chosen.
    """
    places = [(contest, choose(ranker, contest)) for contest in contests]
    return {
        "pictures": len(contests),
        "beam": float(np.mean([contest.values[0] for contest in contests])),
        "chosen": float(np.mean([contest.values[place] for contest, place in places])),
        "best": float(np.mean([contest.values.max() for contest in contests])),
        "written": float(np.mean([contest.candidates.written[place] for contest, place in places])),
    }
