"""Hypotheses to captions: the sentence, its confidence, and where each of its words looked."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from captionist.bundle import BundleConfig
from captionist.captions import Caption, WordAttention
from captionist.inference.detector import box_shares
from captionist.inference.encoding import Encoding
from captionist.inference.hypotheses import Hypothesis
from captionist.inference.sentence import sentence
from captionist.inference.tokenizer import CaptionTokenizer


class Wording:
    """Turns a bundle's hypotheses into captions."""

    def __init__(self, config: BundleConfig, tokenizer: CaptionTokenizer) -> None:
        self._config, self._tokenizer = config, tokenizer

    def captions(self, found: Sequence[Sequence[Hypothesis]], encoding: Encoding) -> list[Caption]:
        """The caption of each of B encoded pictures; found: its hypotheses, best first."""
        return [
            self._best(
                [
                    self._caption(hypothesis, confidence, places)
                    for hypothesis, confidence in zip(hypotheses, self._confidences(hypotheses), strict=True)
                ]
            )
            for hypotheses, places in zip(found, self._places(encoding), strict=True)
        ]

    def _best(self, captions: list[Caption]) -> Caption:
        """The first caption with the others as its alternatives; of those that read the same, only the first stays."""
        distinct = list({caption.text: caption for caption in reversed(captions)}.values())[::-1]
        best, *others = distinct
        return replace(best, alternatives=tuple(others))

    def _places(self, encoding: Encoding) -> list[NDArray[np.float32]]:
        """Where in each picture its visual tokens are: float32 [P, rows * cols], shares of the grid's cells."""
        config = self._config
        cells = np.eye(config.leading + math.prod(config.grid), dtype=np.float32)[:, config.leading :]
        detector = config.detector
        if detector is None or encoding.objects is None:
            return [cells] * len(encoding)
        return [
            np.concatenate((cells, box_shares(objects, detector.words, detector.nouns, config.grid)))
            for objects in encoding.objects
        ]

    def _caption(self, hypothesis: Hypothesis, confidence: float, places: NDArray[np.float32]) -> Caption:
        return Caption(
            text=sentence(self._tokenizer.decode(hypothesis.tokens)),
            log_probability=hypothesis.log_probability,
            confidence=confidence,
            alternatives=(),
            word_attention=tuple(
                WordAttention(word.text, self._over_grid(hypothesis.attention[list(word.places)], places))
                for word in self._tokenizer.words(hypothesis.tokens)
            ),
        )

    def _confidences(self, hypotheses: Sequence[Hypothesis]) -> list[float]:
        """The confidence in each of a picture's captions, best first; if ranked, none exceeds the one before."""
        calibration = self._config.calibration
        means = [hypothesis.mean_log_probability for hypothesis in hypotheses]
        found = [
            calibration.confidence(mean, hypothesis.evidence) if calibration else math.exp(mean)
            for mean, hypothesis in zip(means, hypotheses, strict=True)
        ]
        return list(accumulate(found, min)) if any(h.evidence for h in hypotheses) else found

    def _over_grid(self, attention: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean of a word's tokens on the picture's grid, as shares of it: float32 [T, P] -> [rows, cols].

        A visual token counts where it is: places float32 [P, rows * cols].
        """
        grid: NDArray[np.float32] = (attention.mean(axis=0) @ places).reshape(self._config.grid)
        # The rest of the attention went to earlier words. A grid that got none counts as looked at evenly.
        total = grid.sum()
        return grid / total if total > 0 else np.full_like(grid, 1 / grid.size)
