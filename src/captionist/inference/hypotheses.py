"""Finished and unfinished captions, as token ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished caption.

    tokens: its T token ids, without the end of text.
    log_probability: natural logarithm of the model's probability of these tokens and the end of text, untouched by
        constraints, penalties or temperature.
    score: what it was ranked by; higher is better.
    attention: float32 [T, P], how much the position that predicted each token looked at each visual token.
    pushed: how much more its end counted than the model's log probability of it, because of a word limit.
    evidence: what is known about it if a ranker chose; see `inference.choice`.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    attention: NDArray[np.float32]
    pushed: float = 0.0
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean_log_probability(self) -> float:
        """Per token, counting the end of text."""
        return self.log_probability / (len(self.tokens) + 1)


@dataclass(frozen=True, slots=True)
class Rows:
    """R unfinished captions of equal length T, grouped by picture; row r belongs to picture[r].

    picture: int64 [R]; tokens: int64 [R, T]; attention: float32 [R, T, P]. log_probability: float64 [R], the model's;
    ranking: float64 [R], the same with the repetition penalty.
    """

    picture: NDArray[np.int64]
    tokens: NDArray[np.int64]
    attention: NDArray[np.float32]
    log_probability: NDArray[np.float64]
    ranking: NDArray[np.float64]

    @classmethod
    def start(cls, pictures: NDArray[np.int64], prefix: int) -> "Rows":
        """One empty caption for each entry of `pictures`; `prefix` is P."""
        rows = len(pictures)
        return cls(
            picture=pictures,
            tokens=np.zeros((rows, 0), np.int64),
            attention=np.zeros((rows, 0, prefix), np.float32),
            log_probability=np.zeros(rows),
            ranking=np.zeros(rows),
        )

    def extend(
        self,
        rows: NDArray[np.int64],
        tokens: NDArray[np.int64],
        log_probs: NDArray[np.float32],
        ranked: NDArray[np.float32],
        attention: NDArray[np.float32],
    ) -> "Rows":
        """Captions `rows`, each with one more token. This step's log_probs, ranked: [R, V]; attention: [R, P]."""
        return Rows(
            picture=self.picture[rows],
            tokens=np.concatenate([self.tokens[rows], tokens[:, None]], axis=1),
            attention=np.concatenate([self.attention[rows], attention[rows, None]], axis=1),
            log_probability=self.log_probability[rows] + log_probs[rows, tokens],
            ranking=self.ranking[rows] + ranked[rows, tokens],
        )

    def finish(self, row: int, log_prob: float, ranked: float, length_penalty: float) -> Hypothesis:
        """Caption `row`, ended by an end of text with this log probability, which is ranked by `ranked`."""
        tokens = tuple(self.tokens[row].tolist())
        return Hypothesis(
            tokens=tokens,
            log_probability=float(self.log_probability[row] + log_prob),
            score=float((self.ranking[row] + ranked) / (len(tokens) + 1) ** length_penalty),
            attention=self.attention[row].copy(),
            pushed=ranked - log_prob,
        )
