"""Beam search over many pictures at once; with one beam it is greedy search."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from captionist.inference.constraints import Constraints
from captionist.inference.decoder import Decoder, Step
from captionist.inference.hypotheses import Hypothesis, Rows, log_softmax
from captionist.options import SearchOptions


def beam_search(
    decoder: Decoder, first: Step, options: SearchOptions, constraints: Constraints
) -> list[list[Hypothesis]]:
    """The best `num_beams` captions of each picture, best first. first: what `prefill` gave for the pictures.

    All live captions have the same length, so they share one decoder step; a picture leaves the batch once no live
    caption of its own can still enter its best ones.
    """
    batch, step = len(first.logits), first
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    early: list[list[Hypothesis]] = [[] for _ in range(batch)]
    live = Rows.start(np.arange(batch), step.attention.shape[1])
    while True:
        log_probs = log_softmax(step.logits)
        ranked = constraints.apply(log_probs, live.tokens)
        best_tokens, best_ranked = _top(ranked, 2 * options.num_beams)
        totals = live.ranking[:, None] + best_ranked
        kept_rows: list[NDArray[np.int64]] = []
        kept_tokens: list[NDArray[np.int64]] = []
        for picture in np.unique(live.picture):
            own = np.flatnonzero(live.picture == picture)
            rows, tokens, scores = _merge(own, best_tokens[own], totals[own], 2 * options.num_beams)
            ends = tokens == decoder.eos_id
            # An ending counts only where a continuation of its rank would: the other half of the candidates is
            # there to refill the beam (so that one beam stays greedy).
            ended = rows[: options.num_beams][ends[: options.num_beams]].tolist()
            for row in ended:
                eos = (row, decoder.eos_id)
                finished[picture].append(
                    live.finish(row, float(log_probs[eos]), float(ranked[eos]), options.length_penalty)
                )
            finished[picture].sort(key=lambda hypothesis: -hypothesis.score)
            if options.max_words is not None:  # any caption may prove to be the best sentence of so few words
                early[picture] += finished[picture][options.num_beams :]
                early[picture] += [
                    live.finish(row, float(log_probs[row, decoder.eos_id]), 0.0, options.length_penalty)
                    for row in own.tolist()
                    if row not in ended and np.isfinite(ranked[row, decoder.eos_id])
                ]
            del finished[picture][options.num_beams :]
            going = np.flatnonzero(~ends)[: options.num_beams]
            length = live.tokens.shape[1] + 1
            if going.size and not _is_settled(
                finished[picture], scores[going[0]], length, constraints.max_tokens, options
            ):
                kept_rows.append(rows[going])
                kept_tokens.append(tokens[going])
        if not kept_rows:
            return [_best(*each, options) for each in zip(finished, early, strict=True)]
        rows, tokens = np.concatenate(kept_rows), np.concatenate(kept_tokens)
        live = live.extend(rows, tokens, log_probs, ranked, step.attention)
        step = decoder.step(tokens, decoder.reorder(step.state, rows))


def _top(ranked: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The highest-ranked tokens of each row and their ranks, best first: [R, count] each, or [R, V] if that is less.

    Where fewer are allowed, the rest have rank minus infinity. Looking for the best a few times over is several times
    faster than sorting or partitioning a vocabulary.
    """
    rest, rows = ranked.copy(), np.arange(len(ranked))
    count = min(count, ranked.shape[1])
    tokens, ranks = np.empty((len(rows), count), np.int64), np.empty((len(rows), count), np.float32)
    for place in range(count):
        tokens[:, place] = rest.argmax(axis=1)
        ranks[:, place] = rest[rows, tokens[:, place]]
        rest[rows, tokens[:, place]] = -np.inf
    return tokens, ranks


def _merge(
    rows: NDArray[np.int64], tokens: NDArray[np.int64], totals: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The best `count` continuations of one picture over all its rows: row, token and total of each, best first."""
    row, token, total = np.repeat(rows, tokens.shape[1]), tokens.ravel(), totals.ravel()
    order = np.lexsort((token, row, -total))  # ties go to the earlier row, then to the smaller token id
    order = order[np.isfinite(total[order])][:count]
    return row[order], token[order], total[order]


def _best(finished: list[Hypothesis], early: list[Hypothesis], options: SearchOptions) -> list[Hypothesis]:
    """By what the model makes of their ends; last are those of which it would rather have written more."""
    found = [
        replace(each, score=each.score - each.pushed / (len(each.tokens) + 1) ** options.length_penalty)
        for each in [*finished, *early]
    ]
    return sorted(found, key=lambda each: (each.pushed > math.log(2), -each.score))[: options.num_beams]


def _is_settled(
    finished: list[Hypothesis], best_live: float, length: int, max_tokens: int, options: SearchOptions
) -> bool:
    """Whether no live caption can enter the finished ones any more. best_live: ranking of the best, `length` tokens."""
    if len(finished) < options.num_beams:
        return False
    if options.num_beams == 1:
        return True
    # A total only falls as tokens are added, and total / length**penalty is monotonic in the length: one of the two
    # extreme lengths (the end of text counted) bounds every continuation.
    bound = max(best_live / (end + 1) ** options.length_penalty for end in (length, max_tokens))
    return bool(finished[-1].score >= bound)
