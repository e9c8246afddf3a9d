"""A decoder small enough to enumerate: every caption it can write, with its exact probability."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionist.inference.search import Step

EOS = 0
Histories = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass
class ToyDecoder:
    """Random logits for every (picture, tokens so far); its visual tokens are the numbers of the pictures.

    The attention of a position is drawn from its history too, so that a mixed-up beam shows. `rows_stepped` counts the
    rows of all steps: the work that was done.
    """

    vocabulary: int = 4
    max_tokens: int = 4
    prefix: int = 3
    eos_id: int = EOS
    rows_stepped: int = 0

    def logits(self, picture: int, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        generator = np.random.default_rng([picture, len(tokens), *tokens])
        return generator.normal(scale=2.0, size=self.vocabulary).astype(np.float32)

    def log_probs(self, picture: int, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        logits = self.logits(picture, tokens)
        log_probs: NDArray[np.float32] = logits - np.log(np.exp(logits).sum())
        return log_probs

    def attention(self, picture: int, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        generator = np.random.default_rng([99, picture, len(tokens), *tokens])
        return generator.dirichlet(np.ones(self.prefix)).astype(np.float32)

    def prefill(self, visual_tokens: NDArray[np.int64]) -> Step:
        return self._look(tuple((int(picture), ()) for picture in visual_tokens))

    def step(self, tokens: NDArray[np.int64], state: Histories) -> Step:
        assert len(tokens) == len(state)
        self.rows_stepped += len(tokens)
        return self._look(
            tuple((picture, (*past, int(new))) for (picture, past), new in zip(state, tokens, strict=True))
        )

    def read(self, tokens: NDArray[np.int64], state: Histories) -> Step:
        steps: list[Step] = []
        for column in tokens.T:
            steps.append(self.step(column, steps[-1].state if steps else state))
        log_probs, attention = (np.stack([getattr(s, name) for s in steps], 1) for name in ("log_probs", "attention"))
        return Step(log_probs, attention, steps[-1].state)

    def reorder(self, state: Histories, rows: NDArray[np.int64]) -> Histories:
        return tuple(state[row] for row in rows)

    def _look(self, state: Histories) -> Step:
        return Step(
            log_probs=np.stack([self.log_probs(*history) for history in state]),
            attention=np.stack([self.attention(*history) for history in state]),
            state=state,
        )

    def log_probability(self, picture: int, tokens: tuple[int, ...]) -> float:
        """Of these tokens and the end of text, worked out one token at a time in double precision."""
        total = 0.0
        for place, token in enumerate((*tokens, EOS)):
            logits = self.logits(picture, tokens[:place]).astype(np.float64)
            total += float(logits[token] - np.log(np.exp(logits).sum()))
        return total

    def captions(self, min_tokens: int = 0) -> Iterator[tuple[int, ...]]:
        """Every caption up to the longest."""

        def grow(tokens: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            if len(tokens) >= min_tokens:
                yield tokens
            if len(tokens) < self.max_tokens:
                for token in range(1, self.vocabulary):
                    yield from grow((*tokens, token))

        return grow(())


def pictures(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)
