"""What the language model makes of captions that it did not write."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captionist.inference.decoder import Decoder, Step
from captionist.inference.hypotheses import Hypothesis, Rows, log_softmax


def forced(
    decoder: Decoder, first: Step, pictures: NDArray[np.int64], captions: Sequence[Sequence[int]]
) -> list[Hypothesis]:
    """R captions as the decoder would have written them: the same probability, the same attention.

    first: of `Decoder.prefill`; pictures: int64 [R], the row of `first` to which each caption belongs; captions: the
    token ids of each, without the end of text, at most `max_tokens` of them.
    """
    done: dict[int, Hypothesis] = {}
    live = Rows.start(pictures, first.attention.shape[1])
    # The caption of each live row. The last step's row of each: at first many share that of their picture.
    numbers, sources, step = np.arange(len(captions)), pictures, first
    while len(numbers):
        log_probs, attention = log_softmax(step.logits)[sources], step.attention[sources]
        length = live.tokens.shape[1]
        ends = np.array([len(captions[number]) == length for number in numbers.tolist()])
        for row in np.flatnonzero(ends).tolist():
            end = float(log_probs[row, decoder.eos_id])
            done[int(numbers[row])] = live.finish(row, end, end, length_penalty=1.0)
        going = np.flatnonzero(~ends)
        if not going.size:
            break
        tokens = np.array([captions[number][length] for number in numbers[going].tolist()])
        live = live.extend(going, tokens, log_probs, log_probs, attention)
        step = decoder.step(tokens, decoder.reorder(step.state, sources[going]))
        numbers, sources = numbers[going], np.arange(len(going))
    return [done[number] for number in range(len(captions))]
