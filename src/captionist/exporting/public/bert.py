"""BERT's layer (Devlin et al. 2019) as GIT and BLIP have it: norms behind, not before."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from captionist.exporting.public.decoder import Layer


class BertLayer(Layer):
    """Around a layer of transformers' `GitModel` or `BlipTextModel`."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def project(self, x: Tensor) -> Sequence[Tensor]:
        inner = self.layer.attention.self
        return inner.query(x), inner.key(x), inner.value(x)

    def attended(self, x: Tensor, context: Tensor) -> Tensor:
        found: Tensor = self.layer.attention.output(context, x)
        return found

    def cross_query(self, x: Tensor) -> Tensor:
        query: Tensor = self.layer.crossattention.self.query(x)
        return query

    def cross_project(self, visual_tokens: Tensor) -> Sequence[Tensor]:
        inner = self.layer.crossattention.self
        return inner.key(visual_tokens), inner.value(visual_tokens)

    def cross_attended(self, x: Tensor, context: Tensor) -> Tensor:
        found: Tensor = self.layer.crossattention.output(context, x)
        return found

    def feed(self, x: Tensor) -> Tensor:
        fed: Tensor = self.layer.feed_forward_chunk(x)
        return fed


def embed(embeddings: Any, tokens: Tensor, positions: Tensor) -> Tensor:
    """The sum of both embeddings, normed: int64 [B, T] and [T] -> float [B, T, D]."""
    x: Tensor = embeddings.LayerNorm(embeddings.word_embeddings(tokens) + embeddings.position_embeddings(positions))
    return x
