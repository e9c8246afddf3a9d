"""Captions that were written for a picture against sentences of other pictures: which is best, and how sure one is."""

from collections.abc import Mapping, Sequence
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
from captionist.inference.options import SearchOptions
from captionist.inference.ranker import Ranker
from captionist.inference.tokenizer import CaptionTokenizer

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gatherer:
    """Finds what competes for pictures."""

    bank: Bank
    alignment: OrtAlignment
    tokenizer: CaptionTokenizer
    class_words: ClassWords

    def __call__(self, encoding: Encoding, written: Sequence[Sequence[Hypothesis]]) -> list[Candidates]:
        """The candidates of B pictures: the captions written for each, at least one, and the bank's nearest."""
        images = self.alignment.images(encoding)
        own = self.alignment.sentences([caption.tokens for captions in written for caption in captions])
        ends = np.cumsum([len(captions) for captions in written])[:-1]
        objects = encoding.objects
        none = np.zeros(self.bank.named.shape[1], np.float32)
        return [
            self._of_picture(image, none if objects is None else objects[place, :, 0], captions, vectors)
            for place, (image, captions, vectors) in enumerate(zip(images, written, np.split(own, ends), strict=True))
        ]

    def _of_picture(self, image: Floats, seen: Floats, written: Sequence[Hypothesis], vectors: Floats) -> Candidates:
        texts = [" ".join(words_of(self.tokenizer.decode(caption.tokens))) for caption in written]
        nearest = [place for place in self.bank.nearest(image, seen) if self.bank.sentences[place] not in texts]
        named = np.concatenate([self.class_words(texts), self.bank.named[nearest]])
        cosine = np.concatenate([vectors, self.bank.embeddings[nearest]]) @ image
        support = self.bank.support(named, seen)
        texts += [self.bank.sentences[place] for place in nearest]
        fit = self.bank.fit(cosine, support)
        weights = np.exp(fit - fit.max())
        means = [caption.log_probability / (len(caption.tokens) + 1) for caption in written]
        return Candidates(
            texts=texts,
            written=np.arange(len(texts)) < len(written),
            log_probability=np.array([*means, *[0.0] * len(nearest)], np.float32),
            cosine=cosine,
            support=support,
            agreement=consensus(texts, weights / weights.sum()),
            named=named,
            seen=seen,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """One of a picture's candidates; tokens: None where it was written for the picture."""

    place: int
    tokens: tuple[int, ...] | None


@dataclass(frozen=True)
class Chooser:
    """Ranks what competes for pictures, and tells what speaks for the best."""

    gather: Gatherer
    ranker: Ranker

    def __call__(
        self,
        decoder: Decoder,
        encoding: Encoding,
        options: SearchOptions,
        first: Step,
        written: Sequence[Sequence[Hypothesis]],
        constraints: Constraints,
    ) -> list[list[Hypothesis]]:
        """The `num_captions` best for each of B pictures by the ranker's score, best first.

        first: of `Decoder.prefill`, for the same pictures; written: the captions found for each, at least one.
        """
        gathered = self.gather(encoding, written)
        features = [candidates.features() for candidates in gathered]
        scores = [self.ranker(each) for each in features]
        chosen = [
            self._choose(candidates, own, options, constraints)
            for candidates, own in zip(gathered, scores, strict=True)
        ]
        foreign = [(row, one.tokens) for row, best in enumerate(chosen) for one in best if one.tokens is not None]
        read = iter(forced(decoder, first, np.array([row for row, _ in foreign]), [tokens for _, tokens in foreign]))
        found = []
        for own, best, known, score in zip(written, chosen, features, scores, strict=True):
            captions = [own[one.place] if one.tokens is None else next(read) for one in best]
            places = [one.place for one in best]
            found.append(_tell(captions, places, known, score))
        return found

    def _choose(
        self, candidates: Candidates, scores: Floats, options: SearchOptions, constraints: Constraints
    ) -> list[_Chosen]:
        """The best of those written and of the nearest retrieved that may compete."""
        written = int(candidates.written.sum())
        retrieved = 0 if options.sample else options.retrieved
        best: list[_Chosen] = []
        for place in np.argsort(-scores[: written + retrieved], kind="stable").tolist():
            tokens = None if place < written else tuple(self.gather.tokenizer.encode(f" {candidates.texts[place]}"))
            if tokens is None or constraints.allows(tokens):
                best.append(_Chosen(place, tokens))
            if len(best) == options.num_captions:
                break
        return best


def _tell(
    captions: Sequence[Hypothesis], places: Sequence[int], features: Mapping[str, Floats], scores: Floats
) -> list[Hypothesis]:
    """A picture's best captions with their scores, and with what speaks for the first of them.

    lead: how far it is ahead of any other candidate; behind: how far each of these captions stays behind it, 0 or less.
    """
    best = places[0]
    others = np.delete(scores, best)
    evidence = {name: float(values[best]) for name, values in features.items()}
    evidence["token log probability"] = captions[0].log_probability / (len(captions[0].tokens) + 1)
    evidence["lead"] = float(scores[best] - others.max()) if others.size else 0.0
    return [
        replace(
            caption,
            score=float(scores[place]),
            evidence=evidence | {"behind": float(scores[place] - scores[best])},
        )
        for caption, place in zip(captions, places, strict=True)
    ]
