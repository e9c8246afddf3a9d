"""A place in a document where an alternative text is missing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gap:
    """at: where in the document's text the new text goes. urls: where the picture may be, the likeliest first.
    attribute: whether an HTML attribute is to be written there, or the text alone, as Markdown has it."""

    at: int
    urls: tuple[str, ...]
    attribute: bool
