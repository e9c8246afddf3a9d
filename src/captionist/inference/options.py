"""How captions are searched for: every setting, with its check."""

from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

MOST_BEAMS = 1000
"""For one picture; each takes a row of the decoder's cache, so that more would use up a machine's memory."""
MOST_BEAMS_SERVED = 50
"""What a client of the service may ask for, who does not pay for them."""
MOST_WORDS = 1000
"""Of a caption: more than any model writes."""
MOST_ROWS = 512
"""Rows of the decoder that may run at once: wide beams get fewer pictures in a batch, which bounds their memory."""
MOST_RETRIEVED = 50
"""For one picture; each takes such a row, too, and a bundle looks at no more of its sentences."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Draw captions at random instead of searching for the most probable.

    temperature: below 1 is bolder, above 1 wilder. top_k: only the k most probable tokens (0: all).
    top_p: only the smallest set of tokens that holds this much probability (Holtzman et al. 2020, "The Curious Case
    of Neural Text Degeneration"). seed: the same seed gives the same captions, however pictures are batched.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _require(self.temperature > 0, f"temperature must be above 0, but it is {self.temperature}")
        _require(self.top_k >= 0, f"top_k must be 0 (off) or more, but it is {self.top_k}")
        _require(0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, but it is {self.top_p}")
        _require(self.seed is None or self.seed >= 0, f"seed must be 0 or more, but it is {self.seed}")


class SearchOverrides(TypedDict, total=False):
    """The settings of `SearchOptions` that a caller changes; the others stay as they are."""

    num_beams: int
    num_captions: int
    max_tokens: int
    min_tokens: int
    max_words: int | None
    length_penalty: float
    no_repeat_ngram: int
    repetition_penalty: float
    match_weight: float
    retrieved: int
    sample: Sampling | None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Settings of a search; a wrong one raises ValueError.

    num_beams: hypotheses kept for each picture; 1 is greedy search.
    num_captions: captions returned for each picture; at most num_beams, unless they are sampled.
    max_tokens, min_tokens: length of a caption in tokens, its end of text not counted.
    max_words: whole words, counted by white space; it outranks min_tokens.
    length_penalty: captions are ranked by log probability / length ** length_penalty, the end of text counted, so that
        0 prefers short captions and 1 compares them by their mean token.
    no_repeat_ngram: no run of so many tokens comes twice (0: off).
    repetition_penalty: above 1, tokens already written become less likely (after Keskar et al. 2019, CTRL).
    match_weight: captions found are ranked anew by their score plus so much of their similarity to the picture, a
        cosine; needs a model with an alignment (0: off). A model that has learnt to choose does so instead.
    retrieved: so many sentences of other pictures compete with the captions found; needs a model that has learnt to
        choose among them (0: off).
    sample: draw at random instead; num_beams and retrieved are then ignored.
    """

    num_beams: int = 3
    num_captions: int = 1
    max_tokens: int = 30
    min_tokens: int = 1
    max_words: int | None = None
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    match_weight: float = 0.0
    retrieved: int = 0
    sample: Sampling | None = None

    def __post_init__(self) -> None:
        _require(self.num_beams >= 1, f"num_beams must be at least 1, but it is {self.num_beams}")
        _require(self.num_captions >= 1, f"num_captions must be at least 1, but it is {self.num_captions}")
        _require(
            self.num_beams <= MOST_BEAMS,
            f"num_beams must be at most {MOST_BEAMS:,}, but it is {self.num_beams}",
        )
        _require(
            self.sample is not None or self.num_captions <= self.num_beams,
            f"num_captions ({self.num_captions}) must be at most num_beams ({self.num_beams}): "
            "raise num_beams or sample",
        )
        _require(self.max_tokens >= 1, f"max_tokens must be at least 1, but it is {self.max_tokens}")
        _require(
            0 <= self.min_tokens <= self.max_tokens,
            f"min_tokens must lie between 0 and max_tokens ({self.max_tokens}), but it is {self.min_tokens}",
        )
        _require(
            self.max_words is None or 1 <= self.max_words <= MOST_WORDS,
            f"max_words must lie between 1 and {MOST_WORDS:,}, but it is {self.max_words}",
        )
        _require(
            self.no_repeat_ngram >= 0, f"no_repeat_ngram must be 0 (off) or more, but it is {self.no_repeat_ngram}"
        )
        _require(
            self.repetition_penalty > 0, f"repetition_penalty must be above 0, but it is {self.repetition_penalty}"
        )
        _require(self.match_weight >= 0, f"match_weight must be 0 (off) or more, but it is {self.match_weight}")
        _require(
            0 <= self.retrieved <= MOST_RETRIEVED,
            f"retrieved must lie between 0 (off) and {MOST_RETRIEVED}, but it is {self.retrieved}",
        )

    def fitting(self, batch: int) -> int:
        """How many of so many pictures may run at once."""
        rows = self.num_captions if self.sample else max(self.num_beams, self.retrieved)
        return min(batch, max(1, MOST_ROWS // rows))

    def override(self, **changes: Unpack[SearchOverrides]) -> "SearchOptions":
        """These options with some changed. Asking for more captions than beams alone raises the number of beams too."""
        if "num_beams" not in changes and changes.get("sample", self.sample) is None:
            changes["num_beams"] = max(self.num_beams, changes.get("num_captions", self.num_captions))
        if "min_tokens" not in changes and "max_tokens" in changes:
            changes["min_tokens"] = min(self.min_tokens, changes["max_tokens"])
        return replace(self, **changes)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
