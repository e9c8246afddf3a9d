"""Pictures and sentences that find each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captionist.model.fusion import VisionPrefixLM
from captionist.training.objectives.examples import Batch, Seen
from captionist.training.objectives.objective import Objective


@dataclass(frozen=True)
class Contrast:
    """`Alignment.loss` of all pictures of the batch, whatever source they are from, and their captions."""

    weight: float = 1.0

    def __call__(self, model: VisionPrefixLM, seen: Sequence[Seen]) -> Tensor:
        assert model.alignment is not None  # the recipe has been checked
        pictured = [one for one in seen if one.examples.pictured]
        images = torch.cat(
            [model.embed(one.visual_tokens, one.examples.annotations.get("objects")) for one in pictured]
        )
        most = max(one.examples.captions.shape[1] for one in pictured)
        sentences = [model.alignment.sentences(one.examples.captions) for one in pictured]
        # A sentence of zeros is none: sources have different numbers of captions a picture.
        filled = torch.cat([F.pad(each, (0, 0, 0, most - each.shape[1])) for each in sentences])
        return self.weight * model.alignment.loss(images, filled)


@dataclass(frozen=True, kw_only=True)
class Contrastive(Objective):
    """Losses that are means over pictures, not tokens."""

    def size(self, batch: Batch) -> int:
        """The number of pictures."""
        return sum(len(examples.captions) for examples in batch)
