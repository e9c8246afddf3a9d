"""Visual tokens that name what the captions say: this teaches the projection at once what is slow through GPT-2."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import IGNORE
from captionist.training.objectives.examples import Seen


@dataclass(frozen=True)
class Naming:
    """Cross-entropy, summed, of drawing a picture's words, in any order, from what its visual tokens name.

    What a visual token names is what the output layer would read from it: a distribution over the ids `words`. A
    picture's distribution is the mean of its tokens'. The captions' other tokens do not count.
    """

    words: Tensor
    """int64 [W]."""
    weight: float

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        losses = [self._loss(model, one) for one in seen if one.examples.pictured]
        return self.weight * torch.stack(losses).sum()

    def _loss(self, model: VisionPrefixLM, seen: Seen) -> Tensor:
        prefix = seen.visual_tokens[..., : model.decoder.config.n_embd]
        words, tokens = self.words.to(prefix.device), seen.examples.captions.flatten(1)
        place = words.new_full((model.decoder.wte.num_embeddings,), IGNORE)
        place[words] = torch.arange(len(words), device=words.device)
        named = F.linear(model.decoder.ln_f(prefix), model.decoder.wte.weight[words]).float().log_softmax(-1)
        picture = named.logsumexp(1) - math.log(prefix.shape[1])
        targets = torch.where(tokens == IGNORE, IGNORE, place[tokens.clamp(min=0)])
        counted = targets != IGNORE
        return -(picture.gather(1, targets.clamp(min=0)) * counted).sum()
