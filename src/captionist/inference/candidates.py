"""Captions that compete for a picture, and what is known of each: what a ranker chooses by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_LEAST, _LIKELY, _SURE = 0.02, 0.35, 0.45
"""Scores of the detector: none counts as less than the first, an object of the second is more likely there than not,
and one of the third should be named."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N captions of one picture: those that were written for it, at least one, and those of other pictures.

    texts: in plain words. written: bool [N], whether it is one of the former. log_probability: float32 [N], of those
    the mean of its tokens, the end of text counted. cosine: float32 [N], to the picture. support, agreement: float32
    [N], see `Bank.support` and `consensus`. named: bool [N, K], the classes that it names; seen: float32 [K], the
    detector's best score of each.
    """

    texts: Sequence[str]
    written: NDArray[np.bool_]
    log_probability: Floats
    cosine: Floats
    support: Floats
    agreement: Floats
    named: NDArray[np.bool_]
    seen: Floats

    def features(self) -> dict[str, Floats]:
        """All that a ranker may choose by, the names in FEATURES: float32 [N] each.

        unseen: how sure the detector is that classes it names are not there (0 or less). seen: the sum of its scores
        for those that are. silent: the sum of those that the caption does not name and should. "behind": how far it
        stays behind the best of the picture. "written and": only of written captions, and the same for all of a
        picture: whether to trust the decoder here.
        """
        own, others = self.written, ~self.written
        doubt = np.where(self.seen < _LIKELY, np.log(np.maximum(self.seen, _LEAST) / _LIKELY), 0)
        unseen = self.named @ doubt
        seen = self.named @ np.where(self.seen > _LIKELY, self.seen, 0)
        silent = ~self.named @ np.where(self.seen > _SURE, self.seen, 0)
        features = {
            "cosine": self.cosine,
            "support": self.support,
            "agreement": self.agreement,
            "written": own,
            "log probability": np.where(own, self.log_probability, 0),
            "words": np.array([len(text.split()) for text in self.texts]),
            "unseen": unseen,
            "seen": seen,
            "silent": silent,
        }
        for name in ("cosine", "support", "agreement", "unseen", "seen"):
            features[f"{name} behind"] = features[name] - features[name].max()
        for name in ("cosine", "support", "agreement"):
            features[f"written and {name}"] = own * (_best(features[name], own) - _best(features[name], others))
        features["written and log probability"] = own * self.log_probability[own].max()
        return {name: np.asarray(values, np.float32) for name, values in features.items()}


def _best(values: Floats, among: NDArray[np.bool_]) -> float:
    return float(values[among].max(initial=0.0))


_NO = np.zeros(1, np.float32)
FEATURES = tuple(Candidates([""], _NO == 0, _NO, _NO, _NO, _NO, np.zeros((1, 0), np.bool_), _NO[:0]).features())
"""The names of what a ranker may choose by."""
