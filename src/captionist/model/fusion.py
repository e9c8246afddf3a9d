"""VisionPrefixLM: a picture's visual tokens, linearly projected, stand before the caption in GPT-2's input.

The sequence is [visual prefix | <|endoftext|> caption <|endoftext|>]. A picture's captions share one prefix: they
are packed behind it in a single sequence, and an attention mask keeps them from seeing each other, which trains
five captions for little more than the cost of one and gives the loss of five separate sequences.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from captionist.errors import TrainingError
from captionist.images import Preprocessing
from captionist.model.alignment import Alignment
from captionist.model.config import ModelConfig
from captionist.model.language import (
    IGNORE,
    KeyValues,
    Language,
    Past,
    cut_tokenizer,
    load_language,
    rebuild_language,
)
from captionist.model.vision import Encoder, build_encoder


class TokenLoss(NamedTuple):
    """Cross-entropy summed over `tokens` predicted tokens, captions' ends included, and what stands beside it."""

    total: Tensor
    tokens: int


class Decoded(NamedTuple):
    """What one decoding step gives, for R rows.

    logits float [R, V]; attention float [R, P], the last token's attention to the visual tokens, averaged over
    layers and heads; keys and values float [R, layers, heads, S, head_width]: those of the prefix and the begin of text
    after a prefill, those of the caption's tokens after a step.
    """

    logits: Tensor
    attention: Tensor
    keys: Tensor
    values: Tensor


class VisionPrefixLM(nn.Module):
    """Encoder, linear projection, GPT-2."""

    def __init__(self, config: ModelConfig, encoder: Encoder, language: Language) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.decoder = language.gpt2
        self.tokenizer = language.tokenizer
        self.end_id = language.end_id
        self.grid = config.prefix_grid or encoder.grid
        self.projection = nn.Linear(encoder.width, self.decoder.config.n_embd)
        self.alignment: Alignment | None = None
        if config.alignment:
            self.align(config.alignment)
        self.pooling: Tensor
        self.register_buffer("pooling", _pooling_matrix(encoder.grid, self.grid), persistent=False)

    @property
    def prefix_length(self) -> int:
        """P, the number of visual tokens that GPT-2 sees."""
        return self.grid * self.grid

    @property
    def preprocessing(self) -> Preprocessing:
        """What pixels the encoder wants, for `images.prepare`."""
        side = self.config.encoder.resolution
        return Preprocessing(size=(side, side), mean=self.encoder.mean, std=self.encoder.std)

    @property
    def token_width(self) -> int:
        """W, the numbers of a visual token: those that GPT-2 reads, and behind them those of the image head, if any."""
        return int(self.decoder.config.n_embd) + (self.encoder.feature_width if self.alignment else 0)

    def project(self, features: Tensor, dropout: float = 0) -> Tensor:
        """The encoder's features float [B, F, C] (see `Encoder.backbone`) -> visual tokens float [B, P, W].

        They are D numbers that GPT-2 reads and, with an alignment, the features at their place, which its image head
        reads: what is projected for GPT-2 has lost some of what tells pictures apart.

        `dropout` is the share of a picture's channels to drop, each of them everywhere in the picture at once (Tompson
        et al. 2015): what is dropped in one place only, the neighbours would still tell.
        """
        if dropout:
            features = features * F.dropout(features.new_ones(len(features), 1, features.shape[2]), dropout)
        side = math.isqrt(features.shape[1])  # of smaller pictures (see `Stage.resolution`) less than the encoder's
        pooling = self.pooling if side == self.encoder.grid else _pooling_matrix(side, self.grid)
        pooled = None if self.grid == side else pooling.to(features)
        prefix: Tensor = self.projection(self.encoder.neck(features, pooled))
        if self.alignment is None:
            return prefix
        seen = features if pooled is None else pooled @ features
        return torch.cat((prefix, seen.to(prefix.dtype)), 2)

    def encode(self, pixels: Tensor, dropout: float = 0) -> Tensor:
        """Pixels float [B, 3, H, W] -> visual tokens float [B, P, W]; as in `project`."""
        return self.project(self.encoder.backbone(pixels), dropout)

    def embed(self, visual_tokens: Tensor) -> Tensor:
        """Visual tokens float [B, P, W] -> unit vectors float [B, E], the pictures in the alignment's space."""
        assert self.alignment is not None
        return self.alignment.images(visual_tokens[..., self.decoder.config.n_embd :])

    def forward(
        self,
        captions: Tensor,
        pixels: Tensor | None = None,
        features: Tensor | None = None,
        label_smoothing: float = 0,
        weights: Tensor | None = None,
        naming: tuple[Tensor, float] | None = None,
        contrast: float = 0,
        captioning: bool = True,
        feature_dropout: float = 0,
    ) -> TokenLoss:
        """The loss of C captions for each of B pictures.

        Args: captions int64 [B, C, T], filled with IGNORE behind each caption, or whole where a picture has fewer;
        one of pixels float [B, 3, H, W] and features float [B, F, C]; neither: a language model on text alone;
        weights float [B, C]: what each caption's loss is multiplied by; naming: token ids int64 [W] that the visual
        tokens must name where the captions have them, and the weight of that loss; contrast: the weight of a loss
        by which `alignment` finds each picture's captions among all of them, and the reverse; captioning:
        False where these two are to be all; feature_dropout as in `project`.
        """
        if features is not None:
            visual_tokens = self.project(features, feature_dropout)
        elif pixels is not None:
            visual_tokens = self.encode(pixels, feature_dropout)
        else:
            visual_tokens = self.decoder.wte.weight.new_zeros(len(captions), 0, self.decoder.config.n_embd)
        prefix = visual_tokens[..., : self.decoder.config.n_embd]
        total, tokens = prefix.new_zeros((), dtype=torch.float32), 0
        if captioning:
            total, tokens = self._caption_loss(prefix, captions, label_smoothing, weights)
        if naming is not None:
            total = total + naming[1] * self._naming_loss(prefix, captions.flatten(1), naming[0])
        if contrast:
            assert self.alignment is not None  # the recipe has been checked
            images, sentences = self.embed(visual_tokens), self.alignment.sentences(captions)
            total = total + contrast * self.alignment.loss(images, sentences)
        return TokenLoss(total, tokens)

    def _caption_loss(
        self, prefix: Tensor, captions: Tensor, label_smoothing: float, weights: Tensor | None
    ) -> TokenLoss:
        """Cross-entropy, summed, of the captions; all as in `forward`."""
        count = captions.shape[1]
        inputs, labels = self._shift(captions)
        length = inputs.shape[2]
        packed = torch.cat((prefix, self.decoder.wte(inputs).flatten(1, 2).to(prefix.dtype)), 1)
        text = torch.arange(self.prefix_length, self.prefix_length + length, device=packed.device)
        positions = torch.cat((torch.arange(prefix.shape[1], device=packed.device), text.repeat(count)))
        mask = _packed_mask(prefix.shape[1], count, length, packed.device)
        hidden, _, _ = self.decoder(packed, positions, mask)
        counted = labels.flatten(1) != IGNORE
        logits = self.decoder.logits(hidden[:, prefix.shape[1] :][counted])
        loss = F.cross_entropy(
            logits.float(), labels.flatten(1)[counted], reduction="none", label_smoothing=label_smoothing
        )
        if weights is not None:
            loss = loss * weights.repeat_interleave(length, dim=1)[counted]
        return TokenLoss(loss.sum(), int(counted.sum()))

    def _naming_loss(self, prefix: Tensor, tokens: Tensor, words: Tensor) -> Tensor:
        """Cross-entropy, summed, of drawing a picture's words, in any order, from what its visual tokens name.

        What a visual token names is what the output layer would read from it: a distribution over the ids `words`
        int64 [W]. A picture's own is the mean of those. Of its captions' tokens int64 [B, T], the other ids do not
        count. It tells the projection at once what takes the language model long to pass on.
        """
        place = words.new_full((self.decoder.wte.num_embeddings,), IGNORE)
        place[words] = torch.arange(len(words), device=words.device)
        named = F.linear(self.decoder.ln_f(prefix), self.decoder.wte.weight[words]).float().log_softmax(-1)
        picture = named.logsumexp(1) - math.log(prefix.shape[1])
        targets = torch.where(tokens == IGNORE, IGNORE, place[tokens.clamp(min=0)])
        counted = targets != IGNORE
        return -(picture.gather(1, targets.clamp(min=0)) * counted).sum()

    def _shift(self, captions: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs that begin, and labels that end, with <|endoftext|>: int64 [B, C, T + 1] each.

        The end has a label of its own kind: were the filling labelled with it too, or both left out, the model
        would never learn to stop.
        """
        edge = captions.new_full((*captions.shape[:2], 1), self.end_id)
        inputs = torch.cat((edge, captions.masked_fill(captions == IGNORE, self.end_id)), 2)
        labels = torch.cat((captions, captions.new_full(edge.shape, IGNORE)), 2)
        lengths = (captions != IGNORE).sum(2, keepdim=True)
        labels = labels.scatter(2, lengths, torch.where(lengths > 0, self.end_id, IGNORE))
        return inputs, labels

    def prefill(self, visual_tokens: Tensor) -> Decoded:
        """Read the visual tokens float [B, P, W] and the begin-of-text token; logits are the first word's."""
        visual_tokens = visual_tokens[..., : self.decoder.config.n_embd]
        begin = self.decoder.wte.weight[self.end_id].expand(visual_tokens.shape[0], 1, -1)
        length = self.prefix_length + 1
        mask = torch.ones(length, length, dtype=torch.bool, device=visual_tokens.device).tril()
        positions = torch.arange(length, device=visual_tokens.device)
        return self._decoded(*self.decoder(torch.cat((visual_tokens, begin), 1), positions, mask))

    def step(
        self,
        tokens: Tensor,
        picture: Tensor,
        prefix_keys: Tensor,
        prefix_values: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Decoded:
        """Read one more token a row.

        Args: tokens int64 [R]; picture int64 [R], the row of the prefill that each belongs to; prefix_keys and
        prefix_values as `prefill` gave them for all pictures, which their captions share; keys and values as the last
        step gave them, of no tokens at first (see `no_tokens`).
        """
        past = [
            Past(
                KeyValues(prefix_keys[:, i].index_select(0, picture), prefix_values[:, i].index_select(0, picture)),
                KeyValues(keys[:, i], values[:, i]),
            )
            for i in range(keys.shape[1])
        ]
        positions = torch.full((1,), prefix_keys.shape[3] + keys.shape[3], device=tokens.device)
        return self._decoded(*self.decoder(self.decoder.wte(tokens)[:, None], positions, None, past))

    @staticmethod
    def no_tokens(prefix_keys: Tensor, rows: int) -> Tensor:
        """The keys, or values, of captions that have no token yet: float [rows, layers, heads, 0, head_width]."""
        return prefix_keys.new_zeros(rows, *prefix_keys.shape[1:3], 0, prefix_keys.shape[4])

    def _decoded(self, hidden: Tensor, presents: list[KeyValues], attentions: list[Tensor]) -> Decoded:
        attention = torch.stack([a[:, :, -1].narrow(-1, 0, self.prefix_length) for a in attentions]).mean((0, 2))
        keys = torch.stack([present.keys for present in presents], 1)
        values = torch.stack([present.values for present in presents], 1)
        return Decoded(self.decoder.logits(hidden[:, -1]), attention, keys, values)

    def align(self, size: int) -> None:
        """Add an untrained `Alignment`, whose space is `size` wide."""
        self.alignment = Alignment(self.decoder.wte.num_embeddings, self.encoder.feature_width, size)
        self.config = self.config.model_copy(update={"alignment": size})

    def cut_vocabulary(self, captions: list[str]) -> None:
        """Forget the tokens that these captions do not need (see `cut_tokenizer`), for good."""
        tokenizer, kept = cut_tokenizer(self.tokenizer, captions)
        self.use_vocabulary(tokenizer, kept)

    def use_vocabulary(self, tokenizer: Tokenizer, kept: list[int]) -> None:
        """Speak the ids of `tokenizer`; `kept` are those that its tokens have had, whose embeddings they keep."""
        self.tokenizer = tokenizer
        for table in [self.decoder.wte] + ([self.alignment.words] if self.alignment else []):
            table.weight = nn.Parameter(table.weight.data[kept])
            table.num_embeddings = len(kept)
        self.end_id = Language(self.decoder, tokenizer).end_id
        settings = self.decoder.config
        settings.vocab_size, settings.bos_token_id, settings.eos_token_id = len(kept), self.end_id, self.end_id

    def save(self, directory: Path) -> None:
        """Write model.json, tokenizer.json and model.safetensors, all that `load` needs."""
        directory.mkdir(parents=True, exist_ok=True)
        description = {
            "model": self.config.model_dump(),
            "encoder": self.encoder.architecture(),
            "decoder": self.decoder.config.to_dict(),
        }
        (directory / "model.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
        self.tokenizer.save(str(directory / "tokenizer.json"))
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, directory / "model.safetensors")


def build_model(config: ModelConfig, captions: list[str]) -> VisionPrefixLM:
    """A model on its pretrained weights; `captions` are the training text that the vocabulary may be cut to.

    Raises RecipeError where weights cannot be found.
    """
    cut = captions if config.decoder.vocabulary == "corpus" else None
    language = load_language(config.decoder.weights, config.decoder.dropout, cut)
    return VisionPrefixLM(config, build_encoder(config.encoder, None), language)


def load_model(directory: Path, dropout: float | None = None) -> VisionPrefixLM:
    """A model as `VisionPrefixLM.save` wrote it, with that dropout in the decoder or the one that it had.

    Raises TrainingError where it is missing or damaged.
    """
    try:
        description = json.loads((directory / "model.json").read_text(encoding="utf-8"))
        config = ModelConfig.model_validate(description["model"])
        if dropout is not None:
            config = config.model_copy(update={"decoder": config.decoder.model_copy(update={"dropout": dropout})})
        language = rebuild_language(description["decoder"], config.decoder.dropout, directory / "tokenizer.json")
        model = VisionPrefixLM(config, build_encoder(config.encoder, description["encoder"]), language)
        model.load_state_dict(load_file(directory / "model.safetensors"))
    except Exception as error:  # tokenizers raises bare Exception, safetensors a class without a base of its own
        raise TrainingError(f"{directory} holds no model that can be loaded: {error}") from error
    return model


def _packed_mask(prefix: int, captions: int, length: int, device: torch.device) -> Tensor:
    """bool [S, S]: each token sees the prefix and its own caption, up to itself; S = prefix + captions * length."""
    owner = torch.cat(
        (torch.zeros(prefix, dtype=torch.long), torch.arange(1, captions + 1).repeat_interleave(length))
    ).to(device)
    allowed = (owner[None, :] == 0) | (owner[None, :] == owner[:, None])
    return allowed.tril()


def _pooling_matrix(grid: int, pooled: int) -> Tensor:
    """float [pooled * pooled, grid * grid]: adaptive average pooling as a matrix, which ONNX has no operator for."""
    identity = torch.eye(grid * grid).view(grid * grid, 1, grid, grid)
    return F.adaptive_avg_pool2d(identity, pooled).view(grid * grid, -1).T.contiguous()
