"""The one search of Captionist: greedy, beam and sampling over any `Decoder`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionist.inference.beam import beam_search
from captionist.inference.constraints import Constraints
from captionist.inference.decoder import Decoder, Step
from captionist.inference.hypotheses import Hypothesis
from captionist.inference.options import Sampling, SearchOptions, SearchOverrides
from captionist.inference.sampling import sample

__all__ = ["Decoder", "Hypothesis", "Sampling", "SearchOptions", "SearchOverrides", "Step", "search"]


def search(
    decoder: Decoder,
    visual_tokens: Any,
    batch: int,
    options: SearchOptions,
    word_start: NDArray[np.bool_] | None = None,
) -> list[list[Hypothesis]]:
    """Caption `batch` pictures: for each, `num_captions` hypotheses (or fewer, if no more exist), best first.

    visual_tokens: what the decoder's `prefill` takes for these pictures. word_start: bool [V], which tokens begin with
    white space; needed for `max_words` (ValueError without it). Raises CaptionistError if logits are not numbers.
    """
    if batch == 0:
        return []
    constraints = Constraints(options, eos_id=decoder.eos_id, max_tokens=decoder.max_tokens, word_start=word_start)
    if options.sample is not None:
        return sample(decoder, visual_tokens, batch, options, constraints, options.sample)
    found = beam_search(decoder, visual_tokens, batch, options, constraints)
    return [hypotheses[: options.num_captions] for hypotheses in found]
