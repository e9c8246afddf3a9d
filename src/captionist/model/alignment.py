"""Pictures and sentences in one space: a small CLIP (Radford et al. 2021) on the features of the captioner's encoder.

The space is that of a sentence encoder trained on far more text (MiniLM; Wang et al. 2020, arXiv:2002.10957). The
sentence head learns it with few weights, and pictures are placed where their captions are (as in DeViSE; Frome et al.
2013), so that a picture can find a sentence about things that no captioned picture showed.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from captionist.model.language import IGNORE

_HIDDEN, _SENTENCE_HIDDEN = 1024, 768
_LARGEST = 6.0  # bound on what the image head reads, in standard deviations
_LEAST_SPREAD = 1e-2  # added to deviations, since some numbers hardly differ between pictures
_DROPOUT = 0.4
_FIRST_SCALE = 1 / 0.07  # CLIP's
_LARGEST_SCALE = 100.0
_NEVER = -1e4  # a logit; minus infinity would make the gradient of a picture without rivals NaN


class Alignment(nn.Module):
    """An image head on the encoder's features and the detector's objects, and a sentence head of its own."""

    def __init__(self, vocabulary: int, width: int, size: int, classes: int = 0) -> None:
        """vocabulary: number of tokens; width: C, of the features; size: E, of the common space; classes: K, the
        detector's, or 0 if there is none.
        """
        super().__init__()
        seen = 2 * width + 3 * classes
        self.center: Tensor
        self.spread: Tensor
        self.register_buffer("center", torch.zeros(seen))
        self.register_buffer("spread", torch.ones(seen))
        self.image_hidden = nn.Linear(seen, _HIDDEN)
        self.image_head = nn.Linear(_HIDDEN, size)
        self.words = nn.Embedding(vocabulary, size)
        self.importance = nn.Embedding(vocabulary, 1)
        nn.init.normal_(self.words.weight, std=0.1)
        nn.init.zeros_(self.importance.weight)
        self.phrases = nn.Conv1d(size, size, 3, padding=1, groups=size)
        for parameter in self.phrases.parameters():
            nn.init.zeros_(parameter)
        self.sentence_norm = nn.LayerNorm(size)
        self.sentence_hidden = nn.Linear(size, _SENTENCE_HIDDEN)
        self.sentence_head = nn.Linear(_SENTENCE_HIDDEN, size)
        self.teacher: nn.Linear | None
        self.register_module("teacher", None)
        self.log_scale = nn.Parameter(torch.tensor([math.log(_FIRST_SCALE)]))  # FSDP cannot shard a tensor without axes

    def learn_from(self, width: int | None) -> None:
        """Keep a map from a teacher's vectors, `width` wide, to this space; None: it is no longer needed.

        It trains with the image head, and no bundle has it.
        """
        if width is None or self.teacher is None:
            self.teacher = None if width is None else nn.Linear(width, self.words.embedding_dim).to(self.log_scale)
            if self.teacher is not None:
                nn.init.eye_(self.teacher.weight)
                nn.init.zeros_(self.teacher.bias)

    def taught(self, vectors: Tensor) -> Tensor:
        """A teacher's vectors float [..., W] -> unit vectors float [..., E]; zeros stay zeros."""
        assert self.teacher is not None  # the stage has begun
        unit: Tensor = F.normalize(self.teacher(vectors).float(), dim=-1) * vectors.any(-1, keepdim=True)
        return unit

    def images(self, features: Tensor, objects: Tensor | None = None) -> Tensor:
        """Features float [B, P, C], objects float [B, K, 6] -> unit vectors float [B, E]."""
        read = ((self._seen(features, objects) - self.center) / self.spread).clamp(-_LARGEST, _LARGEST)
        hidden = F.gelu(self.image_hidden(self._drop(read)))
        return F.normalize(self.image_head(self._drop(hidden)).float(), dim=-1)

    def measure(self, features: Tensor, objects: Tensor | None = None) -> None:
        """Measure mean and deviation over many pictures, so that each number weighs the same; shapes as in `images`."""
        seen = self._seen(features, objects)
        self.center.copy_(seen.mean(0))
        self.spread.copy_(seen.std(0) + _LEAST_SPREAD)

    @property
    def measured(self) -> bool:
        """Whether `measure` was called."""
        return bool((self.spread != 1).any())

    @staticmethod
    def _seen(features: Tensor, objects: Tensor | None) -> Tensor:
        """What the image head reads: the features' means and maxima, and each class's score, count and area."""
        seen = [features.mean(1), features.amax(1)]
        if objects is not None:
            score, count = objects[..., 0], objects[..., 1].log1p()
            area = (objects[..., 4] - objects[..., 2]) * (objects[..., 5] - objects[..., 3])
            seen.append(torch.cat((score, count, score * area), 1))
        return torch.cat(seen, 1)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, _DROPOUT, self.training)

    def sentences(self, tokens: Tensor) -> Tensor:
        """Token ids int64 [..., T], padded with IGNORE -> unit vectors float [..., E]; zeros for no token."""
        return self.read(tokens.clamp(min=0), tokens != IGNORE)

    def read(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Token ids int64 [..., T], of which those `known` bool [..., T] count -> as `sentences`.

        A mean of the words, each with its neighbours and weighted by importance, plus what a small network makes of it.
        """
        words = self.words(tokens) * known[..., None]
        phrases = self.phrases(words.flatten(0, -3).transpose(1, 2)).transpose(1, 2).view(words.shape)
        weights = self.importance(tokens).exp() * known[..., None]
        total = weights.sum(-2)
        bag = ((words + phrases) * weights).sum(-2) / total.clamp(min=1e-6)
        sentence = bag + self.sentence_head(F.gelu(self.sentence_hidden(self.sentence_norm(bag))))
        unit: Tensor = F.normalize(sentence.float(), dim=-1) * (total > 0)
        return unit

    def scale(self) -> Tensor:
        """What cosines are multiplied by to give logits."""
        return self.log_scale.exp().clamp(max=_LARGEST_SCALE)

    def loss(self, images: Tensor, sentences: Tensor) -> Tensor:
        """Cross-entropy of finding each picture's sentences, and each sentence's picture: its mean over a picture's
        sentences, summed over B and halved.

        Both are unit vectors, float [B, E] and [B, C, E]; a sentence of zeros is none. They are looked for among those
        of all processes, which must have equally many. A picture's sentences do not compete with each other.
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
