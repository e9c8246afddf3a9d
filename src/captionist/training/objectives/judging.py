"""Teaches the heads to judge what the model itself writes: among its captions of a picture, to prefer what CIDEr-D
does.

Captions of one picture are much alike, and what tells them from other pictures' captions does not tell the better from
the worse. So the heads that rank them learn from them, by the cross-entropy of lists (ListNet; Cao et al. 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import IGNORE
from captionist.training.objectives.examples import Batch, Examples, Seen, look
from captionist.training.objectives.self_critical import SelfCritic, sample_captions

_SHARP = 12.0  # what cosines are multiplied by to give logits
_NEVER = -1e4  # a logit, for captions that do not exist
_APART = 0.2  # the difference in CIDEr-D, from 0 to 10, that makes a caption e times as good


@dataclass(frozen=True)
class Judging:
    """How far the heads' order of `Examples.written` is from that of the rewards, summed over pictures."""

    weight: float

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        assert model.alignment is not None  # the recipe has been checked
        total = torch.zeros(())
        for examples, visual_tokens in seen:
            if examples.written is not None and examples.rewards is not None:
                images = model.embed(visual_tokens, examples.annotations.get("objects"))
                cosines = torch.einsum("be,bse->bs", images, model.alignment.sentences(examples.written))
                none = ~(examples.written != IGNORE).any(2)
                wanted = (examples.rewards / _APART).masked_fill(none, _NEVER).softmax(1)
                found = (_SHARP * cosines).masked_fill(none, _NEVER).log_softmax(1)
                total = total.to(cosines) - (wanted * found).sum()
        return self.weight * total


@dataclass(frozen=True)
class Writer:
    """Lets a model of which only the heads train write captions for the pictures that come up: once for each."""

    critic: SelfCritic
    samples: int
    references: int
    """In addition to the samples, this many references of a picture, which are better than most samples."""
    max_tokens: int
    _written: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, model: VisionPrefixLM, batch: Batch) -> Batch:
        """The same examples; those with pictures also have `written` and `rewards`, the samples first."""
        training = model.training
        model.eval()
        try:
            return tuple(self._with_captions(model, examples) if examples.pictured else examples for examples in batch)
        finally:
            model.train(training)

    def _with_captions(self, model: VisionPrefixLM, examples: Examples) -> Examples:
        assert examples.rows is not None
        keys = [(examples.source, int(row)) for row in examples.rows]
        new = [place for place, key in enumerate(keys) if key not in self._written]
        if new:
            self._write(model, examples, np.array(new, np.int64))
        captions, rewards = zip(*(self._written[key] for key in keys), strict=True)
        device = examples.captions.device
        return replace(
            examples, written=torch.stack(captions).long().to(device), rewards=torch.stack(rewards).to(device)
        )

    def _write(self, model: VisionPrefixLM, examples: Examples, places: NDArray[np.int64]) -> None:
        assert examples.rows is not None
        rows = examples.rows[places]
        # The same for a picture, whichever step it first comes up in.
        draws = torch.stack([torch.rand(self.samples, self.max_tokens, generator=_generator(row)) for row in rows])
        visual_tokens = look(model, examples)[torch.from_numpy(places).to(examples.captions.device)]
        captions = sample_captions(model, visual_tokens, draws)
        rewards = self.critic.rewards(captions, examples.source, rows).cpu()
        known, worth = self.critic.judged_references(examples.source, rows, self.references, self.max_tokens)
        whole = torch.cat((F.pad(captions.cpu(), (0, self.max_tokens - captions.shape[2]), value=IGNORE), known), 1)
        for place, row in enumerate(rows):
            self._written[examples.source, int(row)] = whole[place].int(), torch.cat((rewards[place], worth[place]))


def _generator(row: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(row))
