"""Captions drawn at random from the model's distribution."""

import numpy as np
from numpy.typing import NDArray

from captionist.inference.constraints import Constraints
from captionist.inference.decoder import Decoder, Step
from captionist.inference.hypotheses import Hypothesis, Rows
from captionist.options import Sampling, SearchOptions


def sample(
    decoder: Decoder, first: Step, options: SearchOptions, constraints: Constraints, sampling: Sampling
) -> list[list[Hypothesis]]:
    """`num_captions` independent captions of each picture, best score first; the same caption may come twice.

    first: what `prefill` returned for the pictures. Each picture has its own generator, started from the seed, so that
    its captions do not depend on its batch.
    """
    count, batch = options.num_captions, len(first.log_probs)
    generators = [np.random.default_rng(sampling.seed) for _ in range(batch)]
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    rows = np.repeat(np.arange(batch), count)
    live = Rows.start(rows, first.attention.shape[1])
    slots = np.tile(np.arange(count), batch)
    log_probs, attention, state = first.log_probs[rows], first.attention[rows], decoder.reorder(first.state, rows)
    while True:
        ranked = constraints.apply(log_probs, live.tokens)
        # Drawing a number for every caption, finished or not, keeps each on its own stream.
        draws = np.stack([generator.random(count) for generator in generators])
        tokens = _draw(ranked, draws[live.picture, slots], sampling)
        ends = tokens == decoder.eos_id
        for row in np.flatnonzero(ends).tolist():
            eos = (row, decoder.eos_id)
            hypothesis = live.finish(row, float(log_probs[eos]), float(ranked[eos]), options.length_penalty)
            finished[live.picture[row]].append(hypothesis)
        rows = np.flatnonzero(~ends)
        if not rows.size:
            return [sorted(captions, key=lambda caption: -caption.score) for captions in finished]
        live = live.extend(rows, tokens[rows], log_probs, ranked, attention)
        slots = slots[rows]
        step = decoder.step(tokens[rows], decoder.reorder(state, rows))
        log_probs, attention, state = step.log_probs, step.attention, step.state


def _draw(ranked: NDArray[np.float32], draws: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
    """int64 [R]: a token for each row, by inverting the cumulative distribution at `draws` (float64 [R] in [0, 1))."""
    scaled = ranked.astype(np.float64) / sampling.temperature
    order = np.argsort(-scaled, axis=1, kind="stable")
    scaled = np.take_along_axis(scaled, order, axis=1)
    weights = np.exp(scaled - scaled[:, :1])
    if sampling.top_k:
        weights[:, sampling.top_k :] = 0
    before = np.cumsum(weights, axis=1) - weights
    # A token stays unless those before it already hold top_p, so the first always stays.
    weights[before >= sampling.top_p * weights.sum(axis=1, keepdims=True)] = 0
    cumulative = np.cumsum(weights, axis=1)
    # Strictly above, so that a draw of exactly 0 never picks a token of weight 0.
    place = (cumulative > draws[:, None] * cumulative[:, -1:]).argmax(axis=1)
    tokens: NDArray[np.int64] = np.take_along_axis(order, place[:, None], axis=1)[:, 0]
    return tokens
