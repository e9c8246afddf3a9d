"""Captionist's only search: greedy, beam and sampling over any `Decoder`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionist.inference.beam import beam_search
from captionist.inference.constraints import Constraints
from captionist.inference.decoder import Decoder, Step
from captionist.inference.hypotheses import Hypothesis
from captionist.inference.sampling import sample
from captionist.options import Sampling, SearchOptions, SearchOverrides

__all__ = ["Decoder", "Hypothesis", "Sampling", "SearchOptions", "SearchOverrides", "Step", "search"]

NOT_LEARNT = "retrieved needs a model that has learnt to choose among sentences: leave it at 0"

Similarity = Callable[[list[Sequence[Hypothesis]]], list[NDArray[np.float32]]]
"""How well captions fit their pictures: for each picture, one cosine for each of its hypotheses, however many."""
Choose = Callable[[Step, list[list[Hypothesis]], Constraints], list[list[Hypothesis]]]
"""For each picture, the best of the captions written for it and of others, best first; see `inference.choice`."""


def search(
    decoder: Decoder,
    visual_tokens: Any,
    batch: int,
    options: SearchOptions,
    word_start: NDArray[np.bool_] | None = None,
    similarity: Similarity | None = None,
    choose: Choose | None = None,
) -> list[list[Hypothesis]]:
    """Caption `batch` pictures: for each, `num_captions` hypotheses (or fewer, if no more exist), best first.

    visual_tokens: what the decoder's `prefill` takes for these pictures. word_start: bool [V], which tokens begin with
    white space; needed for `max_words`. similarity: needed for `match_weight`. choose: ranks captions instead; needed
    for `retrieved`. Raises ValueError if one is needed but missing, CaptionistError as `Step` does.
    """
    if batch == 0:
        return []
    constraints = Constraints(options, eos_id=decoder.eos_id, max_tokens=decoder.max_tokens, word_start=word_start)
    if options.retrieved and choose is None:
        raise ValueError(NOT_LEARNT)
    first = decoder.prefill(visual_tokens)
    if options.sample is not None:
        found = sample(decoder, first, options, constraints, options.sample)
    else:
        found = beam_search(decoder, first, options, constraints)
    if choose is not None:
        return choose(first, found, constraints)
    if options.match_weight:
        if similarity is None:
            raise ValueError("match_weight needs a model that compares pictures with sentences: leave it at 0")
        if any(len(hypotheses) > 1 for hypotheses in found):  # greedy search leaves nothing to rank
            scores = similarity(list(found))
            found = [_rank_anew(*each, options.match_weight) for each in zip(found, scores, strict=True)]
    return [hypotheses[: options.num_captions] for hypotheses in found]


def _rank_anew(found: list[Hypothesis], similarity: NDArray[np.float32], weight: float) -> list[Hypothesis]:
    scored = [replace(h, score=h.score + weight * float(s)) for h, s in zip(found, similarity, strict=True)]
    return sorted(scored, key=lambda hypothesis: -hypothesis.score)
