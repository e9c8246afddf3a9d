"""Gives a bundle sentences for its captions to compete with."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from captionist import bundle as bundles
from captionist.bundle import BankConfig, Bundle
from captionist.captioner import Captioner
from captionist.errors import BundleError
from captionist.inference.bank import write_bank
from captionist.inference.class_words import ClassWords, words_of

_FEWEST_WORDS, _MOST_WORDS = 6, 13  # shorter ones say little; longer ones say too much to be true of another picture
_TOGETHER = 1000


def usable_sentences(lines: Iterable[str]) -> list[str]:
    """Those sentences that have a suitable length, each once, in plain lower-case words."""
    plain = (words_of(line) for line in lines)
    return list(dict.fromkeys(" ".join(words) for words in plain if _FEWEST_WORDS <= len(words) <= _MOST_WORDS))


def add_bank(directory: Path, sentences: Sequence[str], credit: str) -> None:
    """Give a bundle that has an alignment a bank of sentences; they compete only once it also has a ranker.

    sentences: see `usable_sentences`. credit: what the model card says about their origin. Raises BundleError if the
    bundle has no alignment or already has a bank, or if no sentence is given.
    """
    captioner = Captioner(directory)
    config = captioner.bundle.config
    if config.bank is not None:
        raise BundleError(f"{directory} has a bank of sentences already: start from a bundle that has none")
    if not sentences:
        raise BundleError("there is no sentence for the bank: pass lines of 6 to 13 words")
    vectors = [
        captioner.sentence_embeddings(sentences[start : start + _TOGETHER])
        for start in range(0, len(sentences), _TOGETHER)
    ]
    named = ClassWords(config.detector.classes if config.detector else ())(sentences)
    write_bank(directory, sentences, np.concatenate(vectors), named)
    bundles.write_config(directory, config.model_copy(update={"bank": BankConfig()}))
    card, heading = Bundle.open(directory).model_card, bundles.TRAINING_HEADING
    before, found, after = card.partition(heading)
    told = f"## Sentences\n\nIts captions compete with {len(sentences):,} sentences about other pictures: {credit}\n\n"
    (directory / bundles.MODEL_CARD).write_text(before + told + found + after, encoding="utf-8")
    bundles.write_checksums(directory)
