"""A model's captions under each well-known mistake in scoring BLEU: python -m benchmarks.bleu CORPUS.

If you have met a "BLEU-2 of 87" on Flickr8k, this shows how such figures come about; docs/bleu.md tells the story.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu

from captionist.captioner import Captioner
from captionist.data import Example, clean_caption, open_corpus
from captionist.evaluation.bleu import bleu
from captionist.evaluation.tokenize import tokenize
from captionist.evaluation.words import Words
from captionist.inference.encoding import Encoding
from harness.report import circumstances, show, write

_PADDED_LENGTH = 34  # the longest caption of Flickr8k with its start and end tokens; much code pads to it
_MEMORISED = 0.9  # share of captions that a split by caption row leaves in training
_CONSTANT = "a man in a blue shirt is standing on the street"  # said of every picture
_BATCH = 16
_WEIGHTS = [(1.0,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4]  # of n-grams, for BLEU-1 to BLEU-4

Bleu = tuple[float, ...]
"""BLEU-1 to BLEU-4, from 0 to 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="whose dev pictures are captioned")
    parser.add_argument("--model", help="a bundle, or an embedded model's name")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    examples, captioner = open_corpus(given.corpus).split("dev"), Captioner(given.model)
    results = captioner.caption_many([example.image for example in examples])
    captioned = [
        (example, found.caption.text) for example, found in zip(examples, results, strict=True) if found.caption
    ]
    rows = score([example for example, _ in captioned], [text for _, text in captioned], captioner)
    show(
        "BLEU of the same captions",
        ("scoring", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"),
        [(name, *(f"{100 * value:.1f}" for value in values)) for name, values in rows.items()],
    )
    # What the page tells of mistakes holds for any model.
    write(given.json, circumstances(of_model=False) | {"scored": captioner.bundle.config.name, "bleu": rows})


def score(examples: Sequence[Example], candidates: Sequence[str], captioner: Captioner) -> dict[str, Bleu]:
    """Captions scored correctly and under each mistake. candidates [N]: what the captioner wrote for the examples [N],
    whose pictures can be read.
    """
    references = [[tokenize(text) for text in example.references] for example in examples]
    words = [tokenize(text) for text in candidates]
    forced = [tokenize(text) for text in teacher_forced(examples, captioner)]
    constant = [tokenize(_CONSTANT)] * len(examples)
    several = [group for group in references if len(group) > 1]
    person = "a person, correct: the first reference against the others"
    return {
        "correct: words, corpus level, all references": bleu(references, words),
        "characters: strings given in place of lists of words": _characters(references, words),
        f"start, end and padding to {_PADDED_LENGTH} counted as words": _special_tokens(references, words),
        "teacher forcing: each word predicted from a reference's own": bleu(references, forced),
        f"split by caption, not by picture: {_MEMORISED:.0%} of the references were seen": _memorised(
            references, words
        ),
        "mean of sentences, smoothed (nltk's method 4)": _smoothed_sentences(references, words),
        "one reference: the first": bleu([group[:1] for group in references], words),
        **({person: bleu([group[1:] for group in several], [group[0] for group in several])} if several else {}),
        "a constant sentence, correct": bleu(references, constant),
        "a constant sentence, characters": _characters(references, constant),
    }


def teacher_forced(examples: Sequence[Example], captioner: Captioner) -> list[str]:
    """The model's likeliest token after each beginning of a picture's first reference, joined to a text.

    Training measures a model this way, but it is no caption: every word before the predicted one is right.
    """
    texts = []
    for start in range(0, len(examples), _BATCH):
        batch = examples[start : start + _BATCH]
        encoding = captioner.encode([captioner.prepare(example.image) for example in batch])
        lowercase = captioner.bundle.config.lowercase
        given = [" " + clean_caption(example.references[0], lowercase) for example in batch]
        tokens = [captioner.tokenizer.encode(text)[: captioner.decoder.max_tokens] for text in given]
        texts += [captioner.tokenizer.decode(row) for row in _predicted(captioner, encoding, tokens)]
    return texts


def _predicted(captioner: Captioner, encoding: Encoding, tokens: Sequence[list[int]]) -> list[list[int]]:
    """The likeliest token in place of each given one. Rows are padded to the longest; what is too much is dropped."""
    decoder, length = captioner.decoder, max(map(len, tokens))
    padded = np.array([row + [decoder.eos_id] * (length - len(row)) for row in tokens], dtype=np.int64)
    step = decoder.prefill(encoding.visual_tokens)
    predicted = [step.log_probs.argmax(1)]
    for place in range(length - 1):
        step = decoder.step(padded[:, place], step.state)
        predicted.append(step.log_probs.argmax(1))
    table = np.stack(predicted, axis=1).tolist()
    return [row[: len(given)] for row, given in zip(table, tokens, strict=True)]


def _characters(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> Bleu:
    joined = [[" ".join(words) for words in group] for group in references]
    return _unchecked_bleu(joined, [" ".join(words) for words in candidates])


def _special_tokens(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> Bleu:
    def padded(words: Words) -> Words:
        framed = ["<start>", *words, "<end>"]
        return framed + ["<pad>"] * (_PADDED_LENGTH - len(framed))

    return _unchecked_bleu([[padded(words) for words in group] for group in references], list(map(padded, candidates)))


def _memorised(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> Bleu:
    """Nine captions in ten are a reference of the picture: the output of a model that has learnt them by heart."""
    drawn = random.Random(0)
    said = [
        drawn.choice(group) if drawn.random() < _MEMORISED else words
        for group, words in zip(references, candidates, strict=True)
    ]
    return bleu(references, said)


def _smoothed_sentences(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> Bleu:
    smoothing = SmoothingFunction().method4
    sentences = [
        sentence_bleu(group, words, _WEIGHTS, smoothing)
        for group, words in zip(references, candidates, strict=True)
        if words
    ]
    return tuple(mean(values) for values in zip(*sentences, strict=True))


def _unchecked_bleu(references: Sequence[object], candidates: Sequence[object]) -> Bleu:
    """`bleu` without the check that makes it refuse such input."""
    return tuple(corpus_bleu(references, candidates, weights=_WEIGHTS))


if __name__ == "__main__":
    main()
