"""BERT's layers (Devlin et al. 2019) as GIT and BLIP use them: each norm comes after its sublayer, not before."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from captionist.exporting.public.decoder import Decoder, Layer


class BertLayer(Layer):
    """Wraps a layer of transformers' `GitModel` or `BlipTextModel`."""

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


class BertDecoder(Decoder):
    """Wraps transformers' `GitModel` or `BlipTextModel`, and the module that turns its states into logits."""

    def __init__(self, bert: Any, head: nn.Module, begin: int, crossing: bool) -> None:
        layers = [BertLayer(layer) for layer in bert.encoder.layer]
        super().__init__(layers, bert.config.num_attention_heads, begin, crossing)
        self.embeddings, self.head = bert.embeddings, head

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        words, places = self.embeddings.word_embeddings(tokens), self.embeddings.position_embeddings(positions)
        x: Tensor = self.embeddings.LayerNorm(words + places)
        return x

    def logits(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(x)
        return scores
