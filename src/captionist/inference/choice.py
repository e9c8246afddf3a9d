"""Chooses among the captions written for a picture and sentences of other pictures, with evidence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from captionist.inference.bank import Bank
from captionist.inference.candidates import Candidates
from captionist.inference.class_words import ClassWords, words_of
from captionist.inference.consensus import consensus
from captionist.inference.constraints import Constraints
from captionist.inference.decoder import Decoder, Step
from captionist.inference.encoding import Encoding
from captionist.inference.engine import OrtAlignment
from captionist.inference.forced import forced
from captionist.inference.hypotheses import Hypothesis
from captionist.inference.ranker import Ranker
from captionist.inference.tokenizer import CaptionTokenizer
from captionist.options import SearchOptions

Floats = NDArray[np.float32]
_PUSHED = 0.3
"""The cost of `Hypothesis.pushed` in a choice: if higher, short captions win; if lower, those that break off."""
_EXPECTED = ("written", "cosine", "support", "agreement")


@dataclass(frozen=True)
class Gatherer:
    """Gathers the candidates for pictures."""

    bank: Bank
    alignment: OrtAlignment
    tokenizer: CaptionTokenizer
    class_words: ClassWords
    decoder: Decoder

    def __call__(
        self,
        encoding: Encoding,
        retrieved: int,
        first: Step,
        written: Sequence[Sequence[Hypothesis]],
        constraints: Constraints,
    ) -> list[Candidates]:
        """The candidates for B pictures: the captions written for each, and at most `retrieved` sentences of the bank.

        first: from `Decoder.prefill`, for the same pictures; written: at least one for each.
        """
        images = self.alignment.images(encoding)
        own = self.alignment.sentences([caption.tokens for captions in written for caption in captions])
        vectors = np.split(own, np.cumsum([len(captions) for captions in written])[:-1])
        fields = [
            self._field(image, self._seen(encoding, place), captions, embedded)
            for place, (image, captions, embedded) in enumerate(zip(images, written, vectors, strict=True))
        ]
        entered = [self._entered(field, retrieved, constraints) for field in fields]
        read = [forced(self.decoder, first, place, [*entries.values()]) for place, entries in enumerate(entered)]
        return [
            field.candidates([*captions, *others], list(entries))
            for field, captions, others, entries in zip(fields, written, read, entered, strict=True)
        ]

    def _seen(self, encoding: Encoding, place: int) -> Floats:
        if encoding.objects is None:
            return np.zeros(self.bank.named.shape[1], np.float32)
        return encoding.objects[place, :, 0]

    def _field(self, image: Floats, seen: Floats, written: Sequence[Hypothesis], vectors: Floats) -> "_Field":
        texts = [" ".join(words_of(self.tokenizer.decode(caption.tokens))) for caption in written]
        nearest = [place for place in self.bank.nearest(image, seen) if self.bank.sentences[place] not in texts]
        named = np.concatenate([self.class_words(texts), self.bank.named[nearest]])
        cosine = np.concatenate([vectors, self.bank.embeddings[nearest]]) @ image
        support = self.bank.support(named, seen)
        fit = self.bank.fit(cosine, support)
        weights = np.exp(fit - fit.max())
        texts += [self.bank.sentences[place] for place in nearest]
        agreement = consensus(texts, weights / weights.sum())
        return _Field(len(written), texts, cosine, support, agreement)

    def _entered(self, field: "_Field", retrieved: int, constraints: Constraints) -> dict[int, tuple[int, ...]]:
        """The bank's sentences that may compete, best first: their places in the field, and their tokens."""
        fit = self.bank.fit(field.cosine, field.support) + self.bank.config.agreement * field.agreement
        entered: dict[int, tuple[int, ...]] = {}
        for place in (field.written + np.argsort(-fit[field.written :], kind="stable")).tolist():
            if len(entered) == retrieved:
                break
            tokens = tuple(self.tokenizer.encode(f" {field.texts[place]}"))
            if constraints.allows(tokens):
                entered[place] = tokens
        return entered


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """The captions written for a picture, and the bank's sentences nearest to it, whether or not they may compete."""

    written: int
    texts: Sequence[str]
    cosine: Floats
    support: Floats
    agreement: Floats

    def candidates(self, captions: Sequence[Hypothesis], entered: Sequence[int]) -> Candidates:
        """The written captions, then the entered sentences; `captions` has the same order."""
        places = [*range(self.written), *entered]
        return Candidates(
            captions=captions,
            texts=[self.texts[place] for place in places],
            written=np.arange(len(places)) < self.written,
            cosine=self.cosine[places],
            support=self.support[places],
            agreement=self.agreement[places],
        )


@dataclass(frozen=True)
class Chooser:
    """Ranks the candidates for pictures, with evidence."""

    gather: Gatherer
    ranker: Ranker

    def __call__(
        self,
        encoding: Encoding,
        options: SearchOptions,
        first: Step,
        written: Sequence[Sequence[Hypothesis]],
        constraints: Constraints,
    ) -> list[list[Hypothesis]]:
        """The `num_captions` best for each of B pictures, best first: by the ranker's score and, under a word limit,
        also by how they end. Arguments as for `Gatherer`."""
        retrieved = 0 if options.sample else options.retrieved
        gathered = self.gather(encoding, retrieved, first, written, constraints)
        ranked = [[caption for _, caption in rank(self.ranker, candidates)] for candidates in gathered]
        for captions in ranked:  # without a word limit nothing is pushed, and the order stays
            captions.sort(key=lambda caption: _PUSHED * caption.pushed - caption.score)
        return [captions[: options.num_captions] for captions in ranked]


def rank(ranker: Ranker, candidates: Candidates) -> list[tuple[int, Hypothesis]]:
    """A picture's candidates by a ranker's score, best first: the place of each, and its caption with its evidence.

    Evidence: its features, and some values that all candidates of the picture share: the expected features of the
    chosen one, with the scores as logits; how undecided these are (their entropy); the best cosine; the mean agreement;
    and the highest log probability of the decoder's own captions.
    """
    features = candidates.features()
    scores = ranker(features)
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    shared = {f"expected {name}": float(shares @ features[name]) for name in _EXPECTED} | {
        "undecided": float(-shares @ np.log(np.maximum(shares, 1e-9))),
        "best cosine": float(features["cosine"].max()),
        "mean agreement": float(features["agreement"].mean()),
        "best own log probability": float(features["log probability"][candidates.written].max()),
    }
    found = []
    for place in np.argsort(-scores, kind="stable").tolist():
        evidence = {name: float(values[place]) for name, values in features.items()} | shared
        found.append((place, replace(candidates.captions[place], score=float(scores[place]), evidence=evidence)))
    return found
