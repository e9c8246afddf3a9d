"""How captions are searched for: every option, with its limits and meaning, the same wherever it is given."""

from typing import Any, Self, TypedDict, Unpack, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from captionist.faults import find_faults

MOST_BEAMS = 1000
"""Per picture; each takes a row of the decoder's cache, so that more would use up a machine's memory."""
MOST_TOKENS = 1000
"""Per caption: more than any model writes."""
MOST_ROWS = 512
"""Rows of the decoder that may run at once: wider beams get fewer pictures per batch, which bounds their memory."""
MOST_RETRIEVED = 50
"""Per picture; each takes such a row, too, and a bundle considers no more of its sentences."""


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**_plain(options))
        except ValidationError as error:
            faults = find_faults(error, type(self).model_fields, quote=True)
            raise ValueError("; ".join(map(str, faults))) from None


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's, which strict fields require."""
    return {name: one.item() if type(one).__module__ == "numpy" else one for name, one in options.items()}


class Sampling(_Options):
    """Draws captions at random instead of searching for the most probable; a wrong setting raises ValueError."""

    temperature: float = Field(
        1.0, ge=0.01, le=100, description="below 1 keeps closer to the likeliest words, above 1 strays further"
    )
    top_k: int = Field(0, ge=0, description="only the k most probable tokens; 0 means all")
    top_p: float = Field(1.0, gt=0, le=1, description="the fewest tokens with this probability (Holtzman et al. 2020)")
    seed: int | None = Field(
        None, ge=0, description="the same seed gives the same captions, however pictures are batched"
    )


class SearchOverrides(TypedDict, total=False):
    """The options of `SearchOptions` that a caller changes; the others stay as they are."""

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


class SearchOptions(_Options):
    """Options of a search, as docs/options.md lists them; a wrong one raises ValueError."""

    num_beams: int = Field(
        3, ge=1, le=MOST_BEAMS, description="hypotheses kept for a picture; 1 is greedy search, the fastest"
    )
    num_captions: int = Field(1, ge=1, le=MOST_BEAMS, description="captions of each picture, best first")
    max_tokens: int = Field(30, ge=1, le=MOST_TOKENS, description="longest caption, in tokens")
    min_tokens: int = Field(1, ge=0, le=MOST_TOKENS, description="shortest caption, in tokens, if max_words allows it")
    max_words: int | None = Field(None, ge=1, le=MOST_TOKENS, description="longest caption, in whole words")
    length_penalty: float = Field(
        1.0,
        ge=-10,
        le=10,
        description="captions rank by log probability / tokens ** length_penalty; 0 favours short ones",
    )
    no_repeat_ngram: int = Field(
        0, ge=0, le=MOST_TOKENS, description="no sequence of this many tokens appears twice; 0 turns this off"
    )
    repetition_penalty: float = Field(1.0, gt=0, le=100, description="above 1 makes repeats rarer (Keskar et al. 2019)")
    match_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="weight of a caption's cosine to the picture, if no ranker chooses; 0 turns this off",
    )
    retrieved: int = Field(
        0,
        ge=0,
        le=MOST_RETRIEVED,
        description="sentences of other pictures that compete as captions, if the model has any",
    )
    sample: Sampling | None = Field(
        None, description="draw at random instead; num_beams and retrieved then have no effect"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.sample is None and self.num_captions > self.num_beams:
            raise ValueError(f"num_captions must be at most num_beams ({self.num_beams}), not {self.num_captions}")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens must be at most max_tokens ({self.max_tokens}), not {self.min_tokens}")
        return self

    def fitting(self, batch: int) -> int:
        """How many of `batch` pictures may run at once."""
        rows = self.num_captions if self.sample else max(self.num_beams, self.retrieved)
        return min(batch, max(1, MOST_ROWS // rows))

    def override(self, **changes: Unpack[SearchOverrides]) -> "SearchOptions":
        """These options with some changed; ValueError if one is wrong.

        Unless they are given as well, num_beams rises to at least num_captions, and min_tokens falls to at most
        max_tokens.
        """
        merged = cast(SearchOverrides, {**dict(self), **_plain(dict(changes))})
        captions, most = merged["num_captions"], merged["max_tokens"]
        # A value that is wrong by itself is refused below, and must not make another option wrong as well.
        if isinstance(captions, int) and "num_beams" not in changes and merged["sample"] is None:
            merged["num_beams"] = max(self.num_beams, min(captions, MOST_BEAMS))
        if isinstance(most, int) and "min_tokens" not in changes:
            merged["min_tokens"] = min(self.min_tokens, max(most, 0))
        return SearchOptions(**merged)


def given(**options: int | None) -> SearchOverrides:
    """Those of the options that are not None."""
    return cast(SearchOverrides, {name: value for name, value in options.items() if value is not None})


def meaning(option: str, **narrower: int) -> dict[str, Any]:
    """Description and limits (ge, gt, le) of a field of `SearchOptions`, as pydantic's `Field` takes them."""
    field = SearchOptions.model_fields[option]
    limits = {key: getattr(one, key) for one in field.metadata for key in ("ge", "gt", "le") if hasattr(one, key)}
    return {"description": field.description} | limits | narrower
