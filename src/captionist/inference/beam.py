"""Beam search over many pictures at once; with one beam, this is greedy search."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from captionist.inference.constraints import Constraints
from captionist.inference.decoder import Decoder, Step
from captionist.inference.hypotheses import Hypothesis, Rows
from captionist.options import SearchOptions

_GROUP = 64  # tokens
_ROUNDING = 1e-3  # more than a total's rounding error in float32


def beam_search(
    decoder: Decoder, first: Step, options: SearchOptions, constraints: Constraints
) -> list[list[Hypothesis]]:
    """The best `num_beams` captions of each picture, best first. first: the result of `prefill` for these.

    All live captions have the same length, so they share one decoder step. A caption is dropped once it can no longer
    be among its picture's best.
    """
    batch, step = len(first.log_probs), first
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    early: list[list[Hypothesis]] = [[] for _ in range(batch)]
    live = Rows.start(np.arange(batch), step.attention.shape[1])
    while True:
        ranked = constraints.apply(step.log_probs, live.tokens)
        kept_rows: list[NDArray[np.int64]] = []
        kept_tokens: list[NDArray[np.int64]] = []
        for picture in np.unique(live.picture):
            own = np.flatnonzero(live.picture == picture)
            places, tokens, scores = _best(ranked[own], live.ranking[own], 2 * options.num_beams)
            rows = own[places]
            ends = tokens == decoder.eos_id
            # An ending counts only among the first `num_beams` candidates. The other half only refills the beam, so
            # that one beam stays greedy.
            ended = rows[: options.num_beams][ends[: options.num_beams]].tolist()
            for row in ended:
                eos = (row, decoder.eos_id)
                finished[picture].append(
                    live.finish(row, float(step.log_probs[eos]), float(ranked[eos]), options.length_penalty)
                )
            finished[picture].sort(key=lambda hypothesis: -hypothesis.score)
            if options.max_words is not None:  # any of them may be the best sentence of so few words
                early[picture] += finished[picture][options.num_beams :]
                early[picture] += [
                    live.finish(row, float(step.log_probs[row, decoder.eos_id]), 0.0, options.length_penalty)
                    for row in own.tolist()
                    if row not in ended and np.isfinite(ranked[row, decoder.eos_id])
                ]
            del finished[picture][options.num_beams :]
            going = np.flatnonzero(~ends)[: options.num_beams]
            length = live.tokens.shape[1] + 1
            going = going[_promising(scores[going], finished[picture], length, options)]
            kept_rows.append(rows[going])
            kept_tokens.append(tokens[going])
        rows, tokens = np.concatenate(kept_rows), np.concatenate(kept_tokens)
        if not rows.size:
            if options.max_words is None:
                return finished
            return [_by_their_ends(*each, options) for each in zip(finished, early, strict=True)]
        live = live.extend(rows, tokens, step.log_probs, ranked, step.attention)
        step = decoder.step(tokens, decoder.reorder(step.state, rows))


def _best(
    ranked: NDArray[np.float32], so_far: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The best `count` continuations over all rows of a picture: row, token and total of each, best first.

    ranked: [R, V], what each token adds to the total; so_far: [R], the rows' totals. Sorting all tokens would take
    longer than the decoder does. But the best tokens of the `count` best groups are that many continuations, so only
    tokens at least as good as the worst of these are sorted.
    """
    vocabulary = ranked.shape[1]
    groups = ranked[:, : vocabulary // _GROUP * _GROUP].reshape(len(ranked), _GROUP, -1).max(axis=1)
    best = groups + so_far[:, None]
    enough = (
        np.partition(best, -count, axis=None)[-count] - so_far if best.size > count else np.full(len(ranked), -np.inf)
    )
    kept = ranked >= (enough - _ROUNDING).astype(np.float32)[:, None]
    row, token = np.divmod(np.flatnonzero(kept & (ranked > -np.inf)), vocabulary)
    total = so_far[row] + ranked[row, token]
    order = np.lexsort((token, row, -total))[:count]  # ties go to the earlier row, then to the smaller token id
    return row[order], token[order], total[order]


def _by_their_ends(finished: list[Hypothesis], early: list[Hypothesis], options: SearchOptions) -> list[Hypothesis]:
    """The best by the model's own probability of their ends; those it would rather have continued come last."""
    found = [
        replace(each, score=each.score - each.pushed / (len(each.tokens) + 1) ** options.length_penalty)
        for each in [*finished, *early]
    ]
    return sorted(found, key=lambda each: (each.pushed > math.log(2), -each.score))[: options.num_beams]


def _promising(
    totals: NDArray[np.float64], finished: list[Hypothesis], length: int, options: SearchOptions
) -> NDArray[np.bool_]:
    """Which of N captions, of `length` tokens with these totals, would be among the best if sure to end here.

    The rule is that of transformers' beam search. A longer caption might still get in if its tokens cost next to
    nothing, but that is not worth the extra steps.
    """
    if len(finished) < options.num_beams:
        return np.ones(len(totals), np.bool_)
    if options.num_beams == 1:
        return np.zeros(len(totals), np.bool_)
    promising: NDArray[np.bool_] = totals / (length + 1) ** options.length_penalty > finished[-1].score
    return promising
