"""Turns what a model writes into a sentence to read."""

import re

_BEFORE_PUNCTUATION = re.compile(r"\s+([.,;:!?%)\]]|'(?:s|m|d|re|ve|ll|t)\b|n't\b)")
_ENDING = ".!?"


def sentence(raw: str) -> str:
    """`a man 's dog , running .` -> `A man's dog, running.`

    Captions in corpora are often tokenised and lower-cased, and models write what they have read. Text without a letter
    or digit becomes the empty string.
    """
    text = " ".join(raw.replace("\ufffd", " ").split())
    text = _BEFORE_PUNCTUATION.sub(r"\1", text).lstrip(" .,;:!?-")
    if not any(map(str.isalnum, text)):
        return ""
    text = text.rstrip(" ,;:-")
    first = next(place for place, character in enumerate(text) if character.isalnum())
    text = text[:first] + text[first].upper() + text[first + 1 :]
    return text if text[-1] in _ENDING else text + "."
