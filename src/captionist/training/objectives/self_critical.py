"""Self-critical sequence training (Rennie et al. 2017): captions sampled by the model itself, weighted by their
CIDEr-D.

The baseline of a sample is the mean reward of the picture's other samples (Luo 2020, "A Better Variant of Self-Critical
Sequence Training"), so no greedy captions are needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from captionist.evaluation.cider import CiderD
from captionist.evaluation.mistakes import unsupported_nouns
from captionist.evaluation.tokenize import tokenize
from captionist.inference.class_words import ClassWords
from captionist.model.detector import CLASSES
from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import IGNORE, encode_caption
from captionist.training.objectives.examples import Batch, Examples, look
from captionist.training.objectives.objective import Objective

_FEWEST = 4  # captions of a picture, for judging one by the others
_SEEN = 0.4  # with at least this score, the detector's find counts as real
_CLASSES = frozenset(CLASSES)
_class_words = ClassWords(CLASSES)


class SelfCritic:
    """Rewards captions by CIDEr-D, with the document frequencies of the train references, minus what they invent."""

    def __init__(
        self, tokenizer: Tokenizer, references: Mapping[str, Sequence[Sequence[str]]], invention: float = 0.0
    ) -> None:
        """references: by source, those of each picture, or of each group of a text. invention: the cost of each thing
        that a caption names but neither its references nor the detector know.
        """
        self._tokenizer, self._invention = tokenizer, invention
        self._references = {
            source: [[tokenize(reference) for reference in picture] for picture in pictures]
            for source, pictures in references.items()
        }
        self._cider = CiderD([picture for pictures in self._references.values() for picture in pictures])
        self._named = {
            source: np.stack([_class_words([" ".join(words)])[0] for words in map(_all_words, pictures)])
            for source, pictures in self._references.items()
            if invention
        }

    def rewards(self, captions: Tensor, source: str, rows: NDArray[np.int64], objects: Tensor | None = None) -> Tensor:
        """The rewards of captions int64 [B, C, T] for a source's pictures or texts `rows` [B]: float32 [B, C].

        CIDEr-D, from 0 to 10, minus the cost of inventions. objects: float [B, 80, 6], what the detector saw.
        """
        batch, count, _ = captions.shape
        ids = [[int(token) for token in row if token != IGNORE] for row in captions.flatten(0, 1).cpu()]
        words = [tokenize(self._tokenizer.decode(row)) for row in ids]
        references = [self._references[source][row] for row in rows for _ in range(count)]
        scores = self._cider.score(words, references).reshape(batch, count)
        if self._invention:
            known = self._named[source][rows]
            if objects is not None:
                known = known | (objects[..., 0] > _SEEN).cpu().numpy()
            scores = scores - self._invention * self._invented(words, references, known.repeat(count, 0)).reshape(
                batch, count
            )
        return torch.from_numpy(scores).float().to(captions.device)

    def judged_references(
        self, source: str, rows: NDArray[np.int64], count: int, max_tokens: int
    ) -> tuple[Tensor, Tensor]:
        """References of pictures, and how well each is borne out by the others.

        int64 [B, count, max_tokens], padded with IGNORE, and their CIDEr-D float32 [B, count]. A picture with fewer
        than `_FEWEST` captions gets none: the others would not say much.
        """
        captions = torch.full((len(rows), count, max_tokens), IGNORE)
        values = torch.zeros(len(rows), count)
        for place, row in enumerate(rows):
            own = self._references[source][row]
            for number, words in enumerate(own[:count] if len(own) >= _FEWEST else []):
                ids = encode_caption(self._tokenizer, " ".join(words))[:max_tokens]
                captions[place, number, : len(ids)] = torch.tensor(ids)
                values[place, number] = float(self._cider.score([words], [own[:number] + own[number + 1 :]])[0])
        return captions, values

    def _invented(
        self, captions: list[list[str]], references: list[list[list[str]]], known: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """How many things each caption makes up: the detector's classes, and those of the 40 nouns that are none."""
        classes = (_class_words([" ".join(words) for words in captions]) & ~known).sum(1)
        nouns = [
            len(unsupported_nouns(set(said), set(_all_words(others))) - _CLASSES)
            for said, others in zip(captions, references, strict=True)
        ]
        return np.asarray(classes + np.array(nouns, np.int64))

    def advantages(
        self, captions: Tensor, source: str, rows: NDArray[np.int64], objects: Tensor | None = None
    ) -> Tensor:
        """How much better than the picture's other samples each caption is; shapes as in `rewards`."""
        rewards = self.rewards(captions, source, rows, objects)
        others = (rewards.sum(1, keepdim=True) - rewards) / (captions.shape[1] - 1)
        return rewards - others


def _all_words(references: Sequence[Sequence[str]]) -> list[str]:
    return [word for reference in references for word in reference]


@dataclass(frozen=True, kw_only=True)
class SelfCritical(Objective):
    """Losses on captions that the model writes itself, each weighted by its advantage."""

    critic: SelfCritic
    samples: int
    """How many captions per picture."""
    max_tokens: int

    @property
    def dropout(self) -> bool:
        return False  # with it, the samples would come from a model other than the one that trains

    @property
    def prepares(self) -> bool:
        return True

    @property
    def draws(self) -> int:
        return self.samples * self.max_tokens

    def prepare(self, model: VisionPrefixLM, batch: Batch) -> Batch:
        """The same examples, with other captions."""
        return tuple(self._sampled(model, examples) for examples in batch)

    def _sampled(self, model: VisionPrefixLM, examples: Examples) -> Examples:
        assert examples.draws is not None
        assert examples.rows is not None
        draws = examples.draws.view(len(examples.rows), self.samples, self.max_tokens)
        captions = sample_captions(model, look(model, examples), draws)
        advantages = self.critic.advantages(
            captions, examples.source, examples.rows, examples.annotations.get("objects")
        )
        weights = advantages if examples.weights is None else advantages * examples.weights.mean(1, keepdim=True)
        return replace(examples, captions=captions, weights=weights)


@torch.no_grad()
def sample_captions(model: VisionPrefixLM, visual_tokens: Tensor, draws: Tensor) -> Tensor:
    """Draw captions from the model's own distribution, on its device: float [B, P, W] -> int64 [B, count, T].

    draws: float [B, count, max_tokens], uniform from 0 to 1, which choose each token by its probability. The result is
    padded with IGNORE after each end; a caption that does not end is cut at `max_tokens`. `inference.search` samples,
    too, with every constraint that a user may set, but row by row on the CPU.
    """
    batch, count, max_tokens = draws.shape
    draws = draws.to(visual_tokens.device).double().flatten(0, 1)
    rows = torch.arange(batch, device=visual_tokens.device).repeat_interleave(count)
    step = model.prefill(visual_tokens)
    logits, prefix = step.logits[rows], (step.keys, step.values)
    keys = values = model.no_tokens(step.keys, batch * count)
    captions = torch.full((batch * count, max_tokens), IGNORE, device=visual_tokens.device)
    alive = torch.arange(batch * count, device=visual_tokens.device)
    for position in range(max_tokens):
        # In double precision: otherwise the many unlikely tokens would add up to something else.
        chances = logits.double().softmax(-1).cumsum(-1)
        places = draws[alive, position, None] * chances[:, -1:]
        tokens = torch.searchsorted(chances, places, right=True)[:, 0]
        going = tokens != model.end_id
        alive, tokens = alive[going], tokens[going]
        if not len(alive):
            break
        captions[alive, position] = tokens
        own = (tuple(part[going] for part in layers) for layers in (keys, values))
        step = model.step(tokens[:, None], rows[alive], *prefix, *own)
        logits, keys, values = step.logits[:, 0], step.keys, step.values
    longest = int((captions != IGNORE).sum(1).max())
    return captions.view(batch, count, max_tokens)[:, :, : max(longest, 1)]
