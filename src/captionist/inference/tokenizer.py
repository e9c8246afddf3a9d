"""Token ids to text and back, through GPT-2's byte-level BPE or BERT's WordPiece."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from captionist.errors import BundleError

# How GPT-2's byte-level alphabet writes space, line feed, carriage return and tab.
_WHITE_SPACE = ("Ġ", "Ċ", "č", "ĉ")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a caption without the punctuation around it, and the positions of the tokens that spell it."""

    text: str
    places: tuple[int, ...]


def word_starts(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """bool [V]: tokens that begin with white space and so start a new word. In WordPiece: tokens that do not continue a
    word, and are not mere punctuation, which belongs to the word before it.
    """
    pieces = [str(tokenizer.id_to_token(index)) for index in range(tokenizer.get_vocab_size())]
    if isinstance(tokenizer.model, WordPiece):
        inner = tokenizer.model.continuing_subword_prefix
        return np.array([not piece.startswith(inner) and any(map(str.isalnum, piece)) for piece in pieces])
    return np.array([piece.startswith(_WHITE_SPACE) for piece in pieces])


class CaptionTokenizer:
    """A bundle's tokenizer; its ids are those of the graphs."""

    def __init__(self, path: Path) -> None:
        """path: a tokenizer.json. Raises BundleError if it cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(
                f"{path} is not a tokenizer that can be read ({error}): export the model again"
            ) from error
        self.word_start = word_starts(self._tokenizer)

    def __len__(self) -> int:
        """V, how many tokens there are."""
        return int(self._tokenizer.get_vocab_size())

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of some tokens, white space at the ends kept; special tokens add nothing."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def words(self, tokens: Sequence[int]) -> list[Word]:
        """The words of a caption in order; mere punctuation is not a word."""
        starts = [place for place, token in enumerate(tokens) if place == 0 or self.word_start[token]]
        words = []
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
            text = self.decode(tokens[start:end])
            inner = "".join(character if character.isalnum() else " " for character in text)
            if not inner.strip():
                continue
            first, last = len(inner) - len(inner.lstrip()), len(inner.rstrip())
            # Punctuation looks at no object. A letter split over two tokens cannot be read from either: then all tokens
            # stay.
            spelling = tuple(p for p in range(start, end) if any(map(str.isalnum, self.decode([tokens[p]]))))
            words.append(Word(text[first:last], spelling or tuple(range(start, end))))
        return words
