"""What the search asks of a language model, whichever library runs it."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from captionist.errors import CaptionistError


@dataclass(frozen=True, slots=True)
class Step:
    """What a decoder predicts after the newest token of each of R rows, or after each of their T newest.

    log_probs: float32 [R, V], or [R, T, V], natural logarithms of the probabilities.
    attention: float32 [R, P], or [R, T, P], how much these positions look at each of the P visual tokens.
    state: whatever the decoder needs to go on (its key-value cache); the search only hands it back.

    Raises CaptionistError if log_probs are NaN, which would otherwise give a random caption.
    """

    log_probs: NDArray[np.float32]
    attention: NDArray[np.float32]
    state: Any

    def __post_init__(self) -> None:
        if np.isnan(self.log_probs[..., 0]).any():  # one NaN makes its whole row NaN
            raise CaptionistError(
                "the model's scores are not numbers, so its weights are damaged: "
                "check a bundle with `captionist model verify`"
            )

    def last(self) -> "Step":
        """Only what it predicts after the last of T tokens."""
        return Step(self.log_probs[:, -1], self.attention[:, -1], self.state)


class Decoder(Protocol):
    """A language model that continues a visual prefix. A row is one unfinished caption."""

    @property
    def eos_id(self) -> int:
        """The token that ends a caption."""

    @property
    def max_tokens(self) -> int:
        """How many caption tokens fit after the visual prefix and the begin-of-text token."""

    def prefill(self, visual_tokens: Any) -> Step:
        """Read the visual tokens of B pictures and the begin-of-text token: B rows, one per picture, in order."""

    def step(self, tokens: NDArray[np.int64], state: Any) -> Step:
        """Append one token, int64 [R], to each of R rows, which may belong to any mix of pictures."""

    def read(self, tokens: NDArray[np.int64], state: Any) -> Step:
        """Append T tokens, int64 [R, T], to each of R rows at once, and predict after each of them."""

    def reorder(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """The state of the given rows, in that order; a row may appear several times or not at all."""
