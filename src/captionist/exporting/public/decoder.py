"""Decoders of public checkpoints, written out for the graphs of `inference.form`.

A family brings its layers and its embeddings: transformers' own modules with the checkpoint's weights. How keys and
values are kept and read is the same for all. If a decoder has cross-attention, the graphs' prefix holds
cross-attention's keys and values of the P visual tokens, followed by self-attention's of the begin token.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captionist.model.attention import causal, prefix_context, prefix_scores
from captionist.model.fusion import Decoded


class Layer(nn.Module):
    """One layer; x is float [B, T, D]."""

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """Query, key and value of self-attention, float [B, T, D] each."""
        raise NotImplementedError

    def attended(self, x: Tensor, context: Tensor) -> Tensor:
        """x after self-attention, whose heads returned `context`: float [B, T, D]."""
        raise NotImplementedError

    def cross_query(self, x: Tensor) -> Tensor:
        """The query of cross-attention, float [B, T, D]."""
        raise NotImplementedError

    def cross_project(self, visual_tokens: Tensor) -> Sequence[Tensor]:
        """visual_tokens float [B, P, W] -> key and value of cross-attention, float [B, P, D] each."""
        raise NotImplementedError

    def cross_attended(self, x: Tensor, context: Tensor) -> Tensor:
        """x after cross-attention, whose heads returned `context`: float [B, T, D]."""
        raise NotImplementedError

    def feed(self, x: Tensor) -> Tensor:
        """x after the feed-forward part of the layer: float [B, T, D]."""
        raise NotImplementedError


class Decoder(nn.Module):
    """A family's layers between its embeddings and its logits.

    heads: of every layer. begin: the id of the token before a caption. crossing: whether cross-attention reads the
    visual tokens; otherwise they come before the caption, and read each other, but not the caption.
    """

    def __init__(self, layers: Sequence[Layer], heads: int, begin: int, crossing: bool) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(layers)
        self.heads, self.begin, self.crossing = heads, begin, crossing

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens int64 [B, T], positions int64 [T]; the begin token has position 0 -> float [B, T, D]."""
        raise NotImplementedError

    def logits(self, x: Tensor) -> Tensor:
        """float [B, T, D] -> float [B, T, V]."""
        raise NotImplementedError

    def prefill(self, visual_tokens: Tensor) -> Decoded:
        """Read the visual tokens, float [B, P, W], and the begin token; logits are the first word's."""
        device, count = visual_tokens.device, visual_tokens.shape[1]
        begin = torch.full((visual_tokens.shape[0], 1), self.begin, device=device)
        x = self.embed(begin, torch.zeros(1, dtype=torch.int64, device=device))
        mask = None
        if not self.crossing:
            x = torch.cat((visual_tokens, x), 1)
            mask = torch.ones(count + 1, count + 1, dtype=torch.bool, device=device)
            mask[:count, count] = False
        found = []
        for index, layer in enumerate(self.layers):
            query, keys, values = map(self._split, layer.project(x))
            if index == len(self.layers) - 1:  # only its last position is still needed
                x, query, mask = x[:, -1:], query[:, :, -1:], None
            context, weights = _attend(query, keys, values, mask)
            x = layer.attended(x, _join(context))
            if self.crossing:
                read = tuple(map(self._split, layer.cross_project(visual_tokens)))
                context, weights = _attend(self._split(layer.cross_query(x)), *read)
                x = layer.cross_attended(x, _join(context))
                keys, values = torch.cat((read[0], keys), 2), torch.cat((read[1], values), 2)
            x = layer.feed(x)
            found.append((weights[:, :, -1:, :count], keys, values))
        decoded = self._decoded(x[:, -1:], found)
        return decoded._replace(logits=decoded.logits[:, 0], attention=decoded.attention[:, 0])

    def step(
        self,
        tokens: Tensor,
        picture: Tensor,
        prefix_keys: Sequence[Tensor],
        prefix_values: Sequence[Tensor],
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
    ) -> Decoded:
        """Read T more tokens per row; arguments as in `VisionPrefixLM.step`."""
        count, earlier, length = prefix_keys[0].shape[2] - 1, keys[0].shape[2], tokens.shape[1]
        x = self.embed(tokens, 1 + earlier + torch.arange(length, device=tokens.device))
        mask = causal(earlier, length, tokens.device)
        found = []
        for index, layer in enumerate(self.layers):
            first = prefix_keys[index], prefix_values[index]
            query, key, value = map(self._split, layer.project(x))
            own = torch.cat((keys[index], key), 2), torch.cat((values[index], value), 2)
            if self.crossing:
                begin = (part[:, :, -1:].index_select(0, picture) for part in first)
                near_keys, near_values = (torch.cat(parts, 2) for parts in zip(begin, own, strict=True))
                context, _ = _attend(query, near_keys, near_values, nn.functional.pad(mask, (1, 0), value=True))
                x = layer.attended(x, _join(context))
                query = self._split(layer.cross_query(x))
                scores = prefix_scores(query, first[0], picture)[..., :-1]
                weights = (scores * query.shape[-1] ** -0.5).softmax(-1)
                # The begin token comes after the visual ones, and cross-attention does not look at it.
                context = prefix_context(nn.functional.pad(weights, (0, 1)), first[1], picture)
                x = layer.cross_attended(x, _join(context))
            else:
                among = (query @ own[0].transpose(2, 3)).masked_fill(~mask, float("-inf"))
                scores = torch.cat((prefix_scores(query, first[0], picture), among), -1)
                weights = (scores * query.shape[-1] ** -0.5).softmax(-1)
                context = prefix_context(weights[..., : count + 1], first[1], picture)
                x = layer.attended(x, _join(context + weights[..., count + 1 :] @ own[1]))
            x = layer.feed(x)
            found.append((weights[..., :count], *own))
        return self._decoded(x, found)

    def _decoded(self, x: Tensor, found: list[tuple[Tensor, Tensor, Tensor]]) -> Decoded:
        weights, keys, values = zip(*found, strict=True)
        attention = torch.stack(weights).mean((0, 2))
        return Decoded(self.logits(x), attention, keys, values)

    def _split(self, x: Tensor) -> Tensor:
        """float [B, T, D] -> [B, heads, T, D / heads]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _join(context: Tensor) -> Tensor:
    """float [B, heads, T, w] -> [B, T, D]."""
    return context.transpose(1, 2).flatten(2)


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """float [B, heads, T, w] each -> the context, of the same shape, and the weights [B, heads, T, S]."""
    scores = query @ keys.transpose(2, 3) * query.shape[-1] ** -0.5
    weights = (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).softmax(-1)
    return weights @ values, weights
