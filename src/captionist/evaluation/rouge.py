"""ROUGE-L by pycocoevalcap, on words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.rouge.rouge import Rouge

from captionist.evaluation.words import Words, require_words


def rouge_l(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> NDArray[np.float64]:
    """Return ROUGE-L of every candidate, float64 [N], from 0 to 1 (Lin 2004; beta 1.2), by pycocoevalcap's Rouge.

    Shapes and errors are those of `bleu.bleu`. A candidate without words scores 0.
    """
    require_words(references, candidates)
    rouge = Rouge()
    return np.array(
        [
            # Rouge splits "" into one empty word, so a candidate without words must not reach it.
            rouge.calc_score([" ".join(candidate)], [" ".join(words) for words in group]) if candidate else 0.0
            for group, candidate in zip(references, candidates, strict=True)
        ]
    )
