"""What happens to captions before a model learns from them. References that score a model are never filtered here."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from captionist.data.records import Example
from captionist.errors import DataError

_CURLY_SINGLE = "\u2018\u2019\u201a\u201b`\u00b4"
_CURLY_DOUBLE = "\u201c\u201d\u201e\u201f"
_STRAIGHT_QUOTES = str.maketrans(dict.fromkeys(_CURLY_SINGLE, "'") | dict.fromkeys(_CURLY_DOUBLE, '"'))
_QUOTED = re.compile(r'"\s*([^"]*?)\s*"')
_CONTRACTION = re.compile(r"(?<=\w)\s+('(?:s|t|d|m|re|ve|ll)|n't)\b", re.IGNORECASE)
_SPACE_BEFORE_PUNCTUATION = re.compile(r"\s+([.,;:!?)])")
_SPACE_AFTER_BRACKET = re.compile(r"\(\s+")
_END = re.compile(r'[.\s]*("?)[.\s]*$')


def clean_caption(text: str, lowercase: bool) -> str:
    """Write a caption as a person would type it, without the full stop at its end.

    Flickr8k's captions are half tokenised (`A girl holding a horse 's lead behind a fire .`). A model that learns them
    that way writes that way, and spends a token on a period that its end-of-text makes superfluous. Curly quotes become
    straight, white space collapses, and spaces before punctuation and inside quotation marks go. Cleaning a clean
    caption changes nothing.
    """
    text = text.translate(_STRAIGHT_QUOTES).replace("''", '"')
    text = " ".join(text.split())
    if text.count('"') % 2 == 0:  # if one is left over, nobody knows which side of it is quoted
        text = _QUOTED.sub(r'"\1"', text)
    text = _CONTRACTION.sub(r"\1", text)
    text = _SPACE_BEFORE_PUNCTUATION.sub(r"\1", text)
    text = _SPACE_AFTER_BRACKET.sub("(", text)
    text = _END.sub(r"\1", text)
    return text.lower() if lowercase else text


def clean_references(examples: Iterable[Example], lowercase: bool) -> tuple[Example, ...]:
    """The same examples with every reference cleaned; only for training examples."""
    return tuple(
        replace(example, references=tuple(clean_caption(text, lowercase) for text in example.references))
        for example in examples
    )


@dataclass(frozen=True, slots=True)
class DroppedCaption:
    """A caption that the length filter removed."""

    id: str
    caption: str
    tokens: int


@dataclass(frozen=True, slots=True)
class FilterResult:
    """What the length filter kept and dropped."""

    examples: tuple[Example, ...]
    """Those with at least one reference left, in the order given."""
    max_tokens: int
    captions: int
    """How many captions went in."""
    dropped: tuple[DroppedCaption, ...]
    emptied: tuple[str, ...]
    """The ids of examples that lost every reference, and so are gone."""

    def __str__(self) -> str:
        share = len(self.dropped) / max(self.captions, 1)
        drops = f"dropped {len(self.dropped):,} of {self.captions:,} captions ({share:.1%})"
        losses = f"; pictures left without a caption: {len(self.emptied):,}" if self.emptied else ""
        return f"{drops} of more than {self.max_tokens} tokens{losses}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionFilter:
    """Drops training captions that are too long to be worth their share of a batch.

    Only what a model learns from is filtered, never the references that score it: a score on only the short captions is
    a score on another, easier corpus.
    """

    max_tokens: int = 20
    count_tokens: Callable[[str], int]
    """Tokens of one caption, without its end-of-text, such as `lambda text: len(tokenizer.encode(text).ids)`."""

    def apply(self, examples: Iterable[Example]) -> FilterResult:
        """Filter training examples, with their references cleaned beforehand if the model sees them cleaned.

        Raises:
            DataError: no caption is left.
        """
        result = self.partition(examples)
        if not result.examples:
            raise DataError(f"no caption to learn from is left: {result}. Raise data.max_caption_tokens.")
        return result

    def partition(self, examples: Iterable[Example]) -> FilterResult:
        """As `apply`, but if nothing is left, that is a result and not an error."""
        kept: list[Example] = []
        dropped: list[DroppedCaption] = []
        emptied: list[str] = []
        captions = 0
        for example in examples:
            captions += len(example.references)
            short = []
            for place, caption in enumerate(example.references):
                tokens = self.count_tokens(caption)
                if tokens <= self.max_tokens:
                    short.append(place)
                else:
                    dropped.append(DroppedCaption(example.id, caption, tokens))
            if short:
                references = tuple(example.references[place] for place in short)
                weights = tuple(example.weights[place] for place in short) if example.weights else ()
                kept.append(replace(example, references=references, weights=weights))
            else:
                emptied.append(example.id)
        return FilterResult(tuple(kept), self.max_tokens, captions, tuple(dropped), tuple(emptied))
