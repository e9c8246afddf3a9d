"""Pictures and sentences in one space: a small CLIP (Radford et al. 2021) on the features of the captioner's encoder.

A sentence is the sum of its tokens' embeddings (a bag of words, as in DeViSE; Frome et al. 2013). On the few thousand
pictures of a captioning corpus it finds more than GPT-2's hidden states do, and it needs no pass of a network.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from captionist.model.language import IGNORE

_QUERIES = 4
_FIRST_SCALE = 1 / 0.07  # CLIP's
_LARGEST_SCALE = 100.0
_NEVER = -1e4  # a logit; minus infinity would make the gradient of a lonely picture NaN


class Alignment(nn.Module):
    """An image head on the encoder's features, and a sentence head of its own."""

    def __init__(self, vocabulary: int, width: int, size: int) -> None:
        """vocabulary: number of tokens; width: C, of the features; size: E, of the common space."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, _QUERIES)
        self.image_head = nn.Linear(_QUERIES * width, size)
        self.words = nn.Embedding(vocabulary, size)
        nn.init.normal_(self.words.weight, std=0.02)
        self.log_scale = nn.Parameter(torch.tensor([math.log(_FIRST_SCALE)]))  # FSDP can shard no tensor without axes

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        scale = state_dict.get(f"{prefix}log_scale")
        if scale is not None:  # in models of before it had no axis
            state_dict[f"{prefix}log_scale"] = scale.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def images(self, features: Tensor) -> Tensor:
        """Features float [B, P, C] -> unit vectors float [B, E]."""
        tokens = self.norm(features)
        looks = self.queries(tokens).softmax(1).transpose(1, 2)  # where in the picture each query looks
        return F.normalize(self.image_head((looks @ tokens).flatten(1)).float(), dim=-1)

    def sentences(self, tokens: Tensor) -> Tensor:
        """Token ids int64 [..., T], filled with IGNORE -> unit vectors float [..., E]; of no token, zeros."""
        known = tokens != IGNORE
        embedded = self.words(tokens.clamp(min=0)) * known[..., None]
        return F.normalize(embedded.sum(-2).float(), dim=-1)

    def scale(self) -> Tensor:
        """What cosines are multiplied by to be logits."""
        return self.log_scale.exp().clamp(max=_LARGEST_SCALE)

    def loss(self, images: Tensor, sentences: Tensor) -> Tensor:
        """Cross-entropy of finding each picture's sentences, and each sentence's picture: its mean over a picture's
        sentences, summed over B and halved.

        Both are unit vectors, float [B, E] and [B, C, E]; a sentence of zeros is none. They are looked for among those
        of all processes, which must have as many each. A picture's sentences are no rivals of each other.
        """
        all_images, all_sentences = images, sentences
        if dist.is_initialized() and dist.get_world_size() > 1:
            all_images, all_sentences = _Gather.apply(images), _Gather.apply(sentences)  # type: ignore[no-untyped-call]
        first = dist.get_rank() * len(images) if dist.is_initialized() else 0
        here = torch.arange(len(images), device=images.device)
        found = self.scale() * torch.einsum("be,gce->bgc", images, all_sentences)
        own, there = found[here, here + first], sentences.any(2)
        rivals = found.masked_fill(~all_sentences.any(2), _NEVER)
        rivals = rivals.index_put((here, here + first), rivals.new_tensor(_NEVER)).logsumexp((1, 2))
        sentence = torch.logaddexp(own, rivals[:, None]) - own
        picture = (self.scale() * sentences @ all_images.T).logsumexp(2) - own
        return ((sentence + picture) * there / there.sum(1, keepdim=True).clamp(min=1)).sum() / 2


class _Gather(torch.autograd.Function):
    """All processes' rows, with gradients: float [B, E] -> float [processes * B, E]."""

    @staticmethod
    def forward(_context: Any, mine: Tensor) -> Tensor:
        rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, mine.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        everyones = gradient.clone()  # every process's loss is about all rows
        dist.all_reduce(everyones)
        return everyones.chunk(dist.get_world_size())[dist.get_rank()]
