"""Which tokens may come next: length limits and repetition."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captionist.options import SearchOptions


class Constraints:
    """Turns the model's log probabilities into what a search ranks by; a forbidden token gets minus infinity.

    If nothing else is allowed, the end of text is, so that a search cannot get stuck.
    """

    def __init__(
        self, options: SearchOptions, *, eos_id: int, max_tokens: int, word_start: NDArray[np.bool_] | None
    ) -> None:
        """max_tokens: how many the decoder has room for. word_start: bool [V], tokens that begin with white space;
        needed for max_words (ValueError without it)."""
        if options.max_words is not None and word_start is None:
            raise ValueError("max_words needs to know which tokens start a word: pass word_start of the tokenizer")
        self.max_tokens = min(options.max_tokens, max_tokens)
        self._options = options
        self._eos = eos_id
        self._word_start = word_start

    def apply(self, log_probs: NDArray[np.float32], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [R, V] for R captions of T tokens each. log_probs: [R, V], left unchanged; tokens: [R, T]."""
        length = tokens.shape[1]
        full = self._at_word_limit(tokens)
        end = self._end(log_probs, full)
        if length >= self.max_tokens:
            ranked = np.full_like(log_probs, -np.inf)
            ranked[:, self._eos] = end
            return ranked
        ranked = log_probs.copy()
        if self._options.repetition_penalty != 1.0:
            rows = np.arange(len(tokens))[:, None]
            ranked[rows, tokens] = log_probs[rows, tokens] * np.float32(self._options.repetition_penalty)
        self._forbid_repeated_ngrams(ranked, tokens)
        if self._word_start is not None and full.any():
            ranked[np.ix_(full, self._word_start)] = -np.inf
            ranked[full & (end > np.log(0.5))] = -np.inf  # the word is complete: another piece would change it
        # None of the rules above applies to the end of text.
        ranked[:, self._eos] = end
        if length < self._options.min_tokens:
            ranked[~full, self._eos] = -np.inf
            stuck = np.isneginf(ranked.max(axis=1))
            ranked[stuck, self._eos] = end[stuck]
        return ranked

    def allows(self, tokens: Sequence[int]) -> bool:
        """Whether a search under these constraints could have written these T tokens."""
        options = self._options
        if not options.min_tokens <= len(tokens) <= self.max_tokens:
            return False
        words = 0 if self._word_start is None else 1 + int(self._word_start[list(tokens[1:])].sum())
        if options.max_words is not None and words > options.max_words:
            return False
        size = options.no_repeat_ngram
        runs = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)] if size else []
        return len(set(runs)) == len(runs)

    def _end(self, log_probs: NDArray[np.float32], full: NDArray[np.bool_]) -> NDArray[np.float32]:
        """float32 [R]: what the end of text is ranked by. full: bool [R], captions at the word limit.

        These may not begin another word. But if the model would, it takes the last one to be complete, and that
        probability counts for the end. Otherwise the end would lose to pieces that are glued to the word.
        """
        end = log_probs[:, self._eos].copy()
        if self._word_start is not None and full.any():
            closing = self._word_start.copy()
            closing[self._eos] = True
            end[full] = np.logaddexp.reduce(log_probs[full][:, closing], axis=1)
        return end

    def _forbid_repeated_ngrams(self, ranked: NDArray[np.float32], tokens: NDArray[np.int64]) -> None:
        size = self._options.no_repeat_ngram
        if size == 0 or tokens.shape[1] < size:
            return
        windows = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)
        tail = tokens[:, tokens.shape[1] - size + 1 :]
        rows, starts = np.nonzero((windows[:, :, :-1] == tail[:, None]).all(axis=2))
        ranked[rows, windows[rows, starts, -1]] = -np.inf

    def _at_word_limit(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool [R]: captions that have reached the word limit; the first token always starts a word."""
        if self._options.max_words is None or self._word_start is None or tokens.shape[1] == 0:
            return np.zeros(len(tokens), np.bool_)
        words = 1 + self._word_start[tokens[:, 1:]].sum(axis=1)
        full: NDArray[np.bool_] = words >= self._options.max_words
        return full
