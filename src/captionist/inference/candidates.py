"""Captions that compete for a picture, and what is known about each, by which a ranker chooses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionist.inference.hypotheses import Hypothesis

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N captions of one picture: first those written for it, at least one, then those of other pictures.

    captions: as the decoder wrote or read them. texts: the same in plain words. written: bool [N], whether a caption
    was written for this picture. cosine: float32 [N], to the picture. support, agreement: float32 [N], see
    `Bank.support` and `consensus`.
    """

    captions: Sequence[Hypothesis]
    texts: Sequence[str]
    written: NDArray[np.bool_]
    cosine: Floats
    support: Floats
    agreement: Floats

    def features(self) -> dict[str, Floats]:
        """All that a ranker may choose by, under the names in FEATURES: float32 [N] each.

        "X behind": how far a caption is behind the picture's best. "own X": X of captions written for the picture, 0
        for others. "trust by X": likewise, but the same for all captions of a picture: whether to trust the decoder
        here. (Counting the classes seen that a caption names, omits or makes up gave nothing in addition to its
        support.)
        """
        own, others = self.written, ~self.written
        features = {
            "written": own,
            "cosine": self.cosine,
            "support": self.support,
            "agreement": self.agreement,
            "log probability": np.array([caption.mean_log_probability for caption in self.captions]),
            "words": np.array([len(text.split()) for text in self.texts]),
        }
        for name in ("cosine", "support", "agreement", "log probability"):
            features[f"{name} behind"] = features[name] - features[name].max()
        for name in ("cosine", "agreement", "log probability"):
            features[f"own {name}"] = own * features[name]
        for name in ("cosine", "support", "agreement"):
            features[f"trust by {name}"] = own * (features[name][own].max() - features[name][others].max(initial=0.0))
        features["trust by log probability"] = own * features["log probability"][own].max()
        return {name: np.asarray(values, np.float32) for name, values in features.items()}


_NO = np.zeros(1, np.float32)
_NOTHING = Hypothesis((), 0.0, 0.0, _NO[:, None])
FEATURES = tuple(Candidates([_NOTHING], [""], _NO == 0, _NO, _NO, _NO).features())
"""The names of what a ranker may choose by."""
