"""The shape that every scorer expects, checked once: lists of words, never strings."""

from collections.abc import Sequence

from captionist.errors import ScoreError

Words = list[str]


def require_words(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> None:
    """Check that `candidates` [N] are lists of words and `references` [N] are lists of such lists, at least one each.

    A string is a sequence of characters, and a scorer that gets one counts characters without complaint: BLEU is then
    near 94 / 87 / 75 / 63 for captions of any quality. So a string in place of a list is an error.

    Raises TypeError for anything but strings in place of words, ScoreError if there is nothing to score, the lengths
    differ, or a candidate has no reference.
    """
    if not candidates:
        raise ScoreError("There is nothing to score: give at least one candidate with its references.")
    if len(references) != len(candidates):
        raise ScoreError(
            f"{len(candidates)} candidates were given with {len(references)} lists of references: give one list of "
            "references for every candidate."
        )
    for position, (group, candidate) in enumerate(zip(references, candidates, strict=True)):
        if not group:
            raise ScoreError(f"references[{position}] is empty: give at least one reference for every candidate.")
        for words in (candidate, *group):
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                raise TypeError(f"picture {position} has {words!r} for a list of words: tokenize() every sentence.")
