"""Lets the language model judge captions that it did not write."""

from collections.abc import Sequence

import numpy as np

from captionist.inference.decoder import Decoder, Step
from captionist.inference.hypotheses import Hypothesis


def forced(decoder: Decoder, first: Step, picture: int, captions: Sequence[Sequence[int]]) -> list[Hypothesis]:
    """Captions as if the decoder had written them for a picture: with its probability and its attention.

    first: from `Decoder.prefill`; picture: its row in `first`; captions: the token ids of each, at most `max_tokens`,
    without the end of text.
    """
    if not captions:
        return []
    # Padding follows the shorter captions, where nothing that counts looks at it.
    table = np.full((len(captions), max(1, *map(len, captions))), decoder.eos_id, np.int64)
    for row, caption in zip(table, captions, strict=True):
        row[: len(caption)] = caption
    read = decoder.read(table, decoder.reorder(first.state, np.full(len(captions), picture)))
    found = []
    for caption, log_probs, attention in zip(captions, read.log_probs, read.attention, strict=True):
        length, ended = len(caption), [*caption, decoder.eos_id]
        said = np.concatenate([first.log_probs[picture, None], log_probs[:length]])
        total = float(said[range(length + 1), ended].sum(dtype=np.float64))
        looks = np.concatenate([first.attention[picture, None], attention])[:length]
        found.append(Hypothesis(tuple(caption), total, total / (length + 1), looks))
    return found
