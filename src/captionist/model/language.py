"""GPT-2 (Radford et al. 2019), written out so that one module can train, decode with a cache and be exported.

Weights come from any GPT2LMHeadModel checkpoint of transformers; a test checks that both give the same logits.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from captionist.errors import RecipeError
from captionist.model.attention import prefix_context, prefix_scores

END_OF_TEXT = "<|endoftext|>"
IGNORE = -100
"""Pads captions to the longest one, and marks what the loss leaves out."""


class KeyValues(NamedTuple):
    """One layer's keys and values of S tokens, float [B, heads, S, head_width]."""

    keys: Tensor
    values: Tensor


class Past(NamedTuple):
    """One layer's keys and values of earlier tokens: the prefixes of B pictures, and each caption's own tokens.

    picture: int64 [R], the picture whose prefix each row has, or None if there is only one.
    """

    prefix: KeyValues
    own: KeyValues
    picture: Tensor | None


class _Attention(nn.Module):
    """Causal attention, written out: in bf16 on a CPU it is ten times faster than torch's fused one with a mask."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, past: Past | None) -> tuple[Tensor, KeyValues, Tensor]:
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        own = KeyValues(key, value)
        if past is not None:
            own = KeyValues(torch.cat((past.own.keys, key), 2), torch.cat((past.own.values, value), 2))
        scores = query @ own.keys.transpose(2, 3)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        if past is not None:
            scores = torch.cat((prefix_scores(query, past.prefix.keys, past.picture), scores), -1)
        weights = (scores * (width // self.heads) ** -0.5).softmax(-1)
        shares, prefix = weights.to(value.dtype), 0 if past is None else past.prefix.keys.shape[2]
        attended = shares[..., prefix:] @ own.values
        if past is not None:
            attended = attended + prefix_context(shares[..., :prefix], past.prefix.values, past.picture)
        attended = attended.transpose(1, 2).reshape(batch, length, width)
        return F.dropout(self.c_proj(attended), self.dropout, self.training), own, weights


class _Block(nn.Module):
    def __init__(self, config: GPT2Config, dropout: float) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = _Attention(config.n_embd, config.n_head, dropout)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.c_fc = nn.Linear(config.n_embd, inner)
        self.c_proj = nn.Linear(inner, config.n_embd)
        self.dropout = dropout
        # gelu_new is GPT-2's own tanh approximation; Whisper's decoder was trained with the exact function.
        self.gelu = "tanh" if config.activation_function in ("gelu_new", "gelu_pytorch_tanh") else "none"

    def forward(self, x: Tensor, mask: Tensor | None, past: Past | None) -> tuple[Tensor, KeyValues, Tensor]:
        attended, present, weights = self.attn(self.ln_1(x), mask, past)
        x = x + attended
        hidden = self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate=self.gelu))
        return x + F.dropout(hidden, self.dropout, self.training), present, weights


class GPT2(nn.Module):
    """A GPT-2 language model over its own tokenizer's tokens, which may be a subset of GPT-2's."""

    def __init__(self, config: GPT2Config, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.blocks = nn.ModuleList(_Block(config, dropout) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.dropout = dropout

    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        past: list[Past] | None = None,
    ) -> tuple[Tensor, list[KeyValues], list[Tensor]]:
        """Run the blocks on T new tokens, which may follow a prefix and S earlier ones.

        Args: embeddings float [B, T, D], without positions; positions int64 [T] or [B, T]; mask bool, broadcast to
        [B, heads, T, S + T], True where attention is allowed (None: everywhere; the prefix may always be seen); past:
        for each layer, the prefix and the S earlier tokens.

        Returns: hidden states float [B, T, D] after the last norm; each layer's keys and values of the S + T tokens;
        each layer's attention float [B, heads, T, S + T], where S includes the prefix.
        """
        x = F.dropout(embeddings + self.wpe(positions), self.dropout, self.training)
        presents, attentions = [], []
        for index, block in enumerate(self.blocks):
            x, present, weights = block(x, mask, past[index] if past else None)
            presents.append(present)
            attentions.append(weights)
        return self.ln_f(x), presents, attentions

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states float [..., D] -> logits float [..., V]; the output matrix is the input embedding."""
        return F.linear(hidden, self.wte.weight)


# All that differs between transformers' names and ours, besides the layers' numbers.
_RENAMES = ((".mlp.", "."), ("transformer.h.", "blocks."), ("transformer.", ""))


def _from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for name, tensor in state.items():
        if name == "lm_head.weight":  # tied to wte
            continue
        matrix = tensor.ndim == 2 and ".h." in name  # transformers' Conv1D keeps its matrices transposed
        for old, new in _RENAMES:
            name = name.replace(old, new)
        ours[name] = tensor.T.contiguous() if matrix else tensor
    return ours


@dataclass
class Language:
    """A GPT-2 and the tokenizer whose ids it uses."""

    gpt2: GPT2
    tokenizer: Tokenizer

    @property
    def end_id(self) -> int:
        """The id of <|endoftext|>, which begins and ends every caption."""
        end: int | None = self.tokenizer.token_to_id(END_OF_TEXT)
        assert end is not None  # load_tokenizer has checked
        return end


def encode_caption(tokenizer: Tokenizer, caption: str) -> list[int]:
    """A caption's token ids; a leading space gives the first word the same token as anywhere else."""
    return list(tokenizer.encode(" " + caption).ids)


def load_tokenizer(weights: str) -> Tokenizer:
    """GPT-2's byte-level BPE from the hub or a directory. Raises RecipeError if there is none."""
    try:
        tokenizer: Tokenizer = GPT2TokenizerFast.from_pretrained(weights).backend_tokenizer
    except (OSError, TypeError, ValueError) as error:
        raise RecipeError(f"No GPT-2 tokenizer at {weights!r}: {error}") from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise RecipeError(f"The tokenizer at {weights!r} has no {END_OF_TEXT}, so it is not GPT-2's.")
    return tokenizer


def cut_tokenizer(tokenizer: Tokenizer, captions: list[str]) -> tuple[Tokenizer, list[int]]:
    """Reduce a byte-level BPE to what `captions` need.

    This keeps every single byte, so that any text can still be written. It also keeps the tokens that occur and those
    that merging forms on the way to them, so that every caption is split exactly as before.

    Returns the tokenizer, with ids 0..V-1, and for each of these the id in the given one.
    """
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges: list[tuple[str, str]] = [tuple(merge) for merge in model["merges"]]
    needed = {token for token in vocabulary if len(token) == 1} | {END_OF_TEXT}
    words = {token for encoding in tokenizer.encode_batch([" " + c for c in captions]) for token in encoding.tokens}
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    for token in words:
        needed |= _merge_path(token, ranks)
    kept = sorted((vocabulary[token], token) for token in needed)
    reduced = Tokenizer(
        BPE(
            vocab={token: index for index, (_, token) in enumerate(kept)},
            merges=[merge for merge in merges if {*merge, "".join(merge)} <= needed],
        )
    )
    reduced.pre_tokenizer = ByteLevel(add_prefix_space=False)
    reduced.decoder = ByteLevelDecoder()
    reduced.add_special_tokens([END_OF_TEXT])
    return reduced, [index for index, _ in kept]


def _merge_path(token: str, ranks: dict[tuple[str, str], int]) -> set[str]:
    """Every token that byte pair encoding forms on its way from single characters to `token`."""
    pieces, passed = list(token), {token}
    while len(pieces) > 1:
        pairs = list(pairwise(pieces))
        best = min(range(len(pairs)), key=lambda i: ranks.get(pairs[i], len(ranks)))
        if pairs[best] not in ranks:
            break
        pieces[best : best + 2] = ["".join(pairs[best])]
        passed.add(pieces[best])
    return passed


def load_language(weights: str, dropout: float) -> Language:
    """GPT-2 from the hub or a directory. Raises RecipeError if there is none."""
    tokenizer = load_tokenizer(weights)
    try:
        source = GPT2LMHeadModel.from_pretrained(weights)
    except OSError as error:
        raise RecipeError(f"No GPT-2 weights at {weights!r}: {error}") from error
    gpt2 = GPT2(source.config, dropout)
    gpt2.load_state_dict(_from_transformers(source.state_dict()))
    return Language(gpt2, tokenizer)


def rebuild_language(architecture: dict[str, Any], dropout: float, tokenizer: Path) -> Language:
    """A GPT-2 whose weights the caller will load, and its saved tokenizer."""
    return Language(GPT2(GPT2Config.from_dict(architecture), dropout), Tokenizer.from_file(str(tokenizer)))
