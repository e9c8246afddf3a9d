"""What a captioner returns: sentences about pictures, and where it looked as it wrote them."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captionist.errors import ImageError
from captionist.images import ImageInput


@dataclass(frozen=True, slots=True, eq=False)
class WordAttention:
    """Where the model looked as it wrote a word: float32 [rows, cols] over the picture, summing to 1."""

    word: str
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True, repr=False)
class Caption:
    """A sentence about a picture; `str` gives the sentence alone, and a notebook shows it with its picture.

    text: upper-case first letter, final period. log_probability: natural logarithm of the model's probability of the
    whole caption. confidence: an estimate of the chance, 0 to 1, that a person would accept the caption, for pictures
    of the kind that the model was calibrated on (see `bundle.Calibration`); without a calibration, the geometric mean
    of the probabilities of its tokens, which only ranks. alternatives: the other captions asked for, best first, each
    with a different text. word_attention: one entry a word. picture: uint8 [H, W, 3], small, if it was captioned alone.
    Captions are equal if everything but the last two fields is.
    """

    text: str
    log_probability: float
    confidence: float
    alternatives: tuple["Caption", ...]
    word_attention: tuple[WordAttention, ...] = field(compare=False)
    picture: NDArray[np.uint8] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Caption({self.text!r}, confidence={self.confidence:.2f})"

    def _repr_html_(self) -> str:
        from captionist.notebook import html

        return html(self)

    def to_dict(self, words: bool = False) -> dict[str, Any]:
        """What the command line and the service give as JSON: text, log_probability, confidence, alternatives.

        words: also the words, each with the weights of its heat map, rows of 0 to 1.
        """
        return self.fields(words) | {"alternatives": [one.fields(words) for one in self.alternatives]}

    def fields(self, words: bool = False) -> dict[str, Any]:
        """`to_dict` without the alternatives."""
        fields: dict[str, Any] = {
            "text": self.text,
            "log_probability": self.log_probability,
            "confidence": self.confidence,
        }
        if words:
            grids = zip(self.word_attention, self.heat_maps(), strict=True)
            fields["words"] = [
                {"word": word.word, "weights": grid.astype(float).round(4).tolist()} for word, grid in grids
            ]
        return fields

    def heat_maps(self) -> NDArray[np.float32]:
        """What distinguishes where each word looked: float32 [words, rows, cols], 0 to 1.

        Transformers put much of their attention on a few positions whatever they write (the "sinks" of Xiao et al.
        2024, "Efficient Streaming Language Models with Attention Sinks"), which would make all maps alike. So a map is
        the Pearson residual (share - mean) / sqrt(mean) over the words, where it is positive: a position counts by how
        much more it got than usual there. A single word has nothing to be compared with and keeps its shares.
        """
        if not self.word_attention:
            return np.zeros((0, 1, 1), np.float32)
        weights = np.stack([word.weights for word in self.word_attention])
        if len(weights) > 1:
            usual = weights.mean(axis=0)
            weights = np.maximum((weights - usual) / np.sqrt(np.maximum(usual, np.finfo(np.float32).tiny)), 0)
        highest = weights.max(axis=(1, 2), keepdims=True)
        heat: NDArray[np.float32] = np.divide(weights, highest, out=np.zeros_like(weights), where=highest > 0)
        return heat


class CaptionResult(NamedTuple):
    """The result for one picture of many: a caption or an error; the other is None."""

    source: ImageInput
    caption: Caption | None
    error: ImageError | None


class EmbeddingResult(NamedTuple):
    """The result for one picture of many: a unit vector, float32 [E], or an error; the other is None."""

    source: ImageInput
    embedding: NDArray[np.float32] | None
    error: ImageError | None
