"""VisionPrefixLM: GPT-2 reads a picture's visual tokens, linearly projected, before the caption.

The sequence is [visual prefix | <|endoftext|> caption <|endoftext|>]. A picture's captions share one prefix: they
are packed behind it in a single sequence, and an attention mask keeps them from seeing each other. Training on five
captions then costs little more than on one, and the loss is that of five separate sequences.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from captionist.errors import TrainingError
from captionist.images import Preprocessing
from captionist.model.alignment import Alignment
from captionist.model.attention import causal
from captionist.model.config import ModelConfig
from captionist.model.detector import CLASSES
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
from captionist.model.words import WordsSeen

Given = TypeVar("Given")
_TEACHER = "alignment.teacher.weight"


class Read(NamedTuple):
    """What GPT-2 predicts at each of N places in captions, including their ends.

    logits float [N, V]; labels int64 [N], the actual tokens; captions int64 [N], the caption that each place is in:
    with C captions per picture, caption c of picture b is number b * C + c.
    """

    logits: Tensor
    labels: Tensor
    captions: Tensor


class Decoded(NamedTuple):
    """What GPT-2 predicts after each of T tokens of R rows; a prefill predicts only after the last, without T.

    logits float [R, T, V]; attention float [R, T, P], of each token to the visual ones, averaged over layers and heads;
    keys and values of each layer, float [R, heads, S, head_width]: of the prefix and the begin of text from a prefill,
    of the caption's tokens from a step.
    """

    logits: Tensor
    attention: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


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
        self.words: WordsSeen | None = None
        if config.words:
            self.words = WordsSeen(config.words, self.projection.out_features, encoder.feature_width, self.tokenizer)
        self.alignment: Alignment | None = None
        if config.alignment:
            self.align(config.alignment)
        self.pooling: Tensor
        self.register_buffer("pooling", _pooling_matrix(encoder.grid, self.grid), persistent=False)

    @property
    def prefix_length(self) -> int:
        """P, the number of tokens that GPT-2 sees before the caption: the grid's, then the words seen."""
        return self.grid * self.grid + (len(self.words) if self.words else 0)

    @property
    def preprocessing(self) -> Preprocessing:
        """The pixels that the encoder expects, for `images.prepare`."""
        side = self.config.encoder.resolution
        return Preprocessing(size=(side, side), mean=self.encoder.mean, std=self.encoder.std)

    @property
    def token_width(self) -> int:
        """W, the width of a visual token: the numbers for GPT-2, then those for the image head, if any."""
        return int(self.decoder.config.n_embd) + (self.encoder.feature_width if self.alignment else 0)

    def project(
        self, features: Tensor, dropout: float = 0, objects: Tensor | None = None, classes: Tensor | None = None
    ) -> Tensor:
        """The encoder's features float [B, F, C] (see `Encoder.backbone`) -> visual tokens float [B, P, W].

        A visual token is D numbers for GPT-2 and, with an alignment, the features at its place for the image head: the
        projection for GPT-2 loses some of what tells pictures apart.

        For models with words seen: `objects` float [B, 80, 6], what the detector found, and `classes` float [B, 1000],
        the probabilities of ImageNet's classes, by default from the model's own classifier.

        `dropout` is the share of a picture's channels to drop, each everywhere in the picture at once (Tompson et al.
        2015): neighbours would reveal what is dropped in one place only.
        """
        if dropout:
            features = features * F.dropout(features.new_ones(len(features), 1, features.shape[2]), dropout)
        side = math.isqrt(features.shape[1])  # less than the encoder's for smaller pictures (see `Stage.resolution`)
        pooling = self.pooling if side == self.encoder.grid else _pooling_matrix(side, self.grid)
        pooled = None if self.grid == side else pooling.to(features)
        prefix: Tensor = self.projection(self.encoder.neck(features, pooled))
        seen = features if pooled is None else pooled @ features
        if self.words is not None:
            assert objects is not None  # the recipe has been checked
            found = self.words.classes(seen) if classes is None else classes
            named = self.words(objects, found @ self.words.grouping, self.decoder.wte.weight)
            prefix = torch.cat((prefix, named.to(prefix.dtype)), 1)
        if self.alignment is None:
            return prefix
        return torch.cat((prefix, F.pad(seen, (0, 0, 0, prefix.shape[1] - seen.shape[1])).to(prefix.dtype)), 2)

    def encode(
        self, pixels: Tensor, dropout: float = 0, objects: Tensor | None = None, classes: Tensor | None = None
    ) -> Tensor:
        """Pixels float [B, 3, H, W] -> visual tokens float [B, P, W]; see `project`."""
        return self.project(self.encoder.backbone(pixels), dropout, objects, classes)

    def embed(self, visual_tokens: Tensor, objects: Tensor | None = None) -> Tensor:
        """Visual tokens float [B, P, W] -> unit vectors float [B, E] in the alignment's space.

        `objects` as in `project`.
        """
        assert self.alignment is not None
        return self.alignment.images(self.seen(visual_tokens), objects)

    def seen(self, visual_tokens: Tensor) -> Tensor:
        """Visual tokens float [B, P, W] -> what the encoder saw at each place, float [B, grid * grid, C]."""
        return visual_tokens[:, : self.grid**2, self.decoder.config.n_embd :]

    def unseen(self, rows: int, objects: Tensor | None = None, classes: Tensor | None = None) -> Tensor:
        """The visual tokens of texts without pictures: float [rows, 0, W], or with words seen [rows, 1 + words, W].

        The first then says that there is no picture; the words come from `objects` float [rows, 80, 6] and ImageNet's
        `classes` float [rows, 1000], as a picture of what the text describes might have them.
        """
        embeddings = self.decoder.wte.weight
        if self.words is None:
            return embeddings.new_zeros(rows, 0, self.token_width)
        assert objects is not None  # the recipe has been checked
        assert classes is not None
        named = self.words(objects, classes @ self.words.grouping, embeddings)
        prefix = torch.cat((self.words.no_picture.expand(rows, 1, -1), named), 1)
        return F.pad(prefix, (0, self.token_width - prefix.shape[2]))

    def forward(self, objective: Callable[["VisionPrefixLM", Given], Tensor], given: Given) -> Tensor:
        """Call `objective` on this model: the only way in for DDP and FSDP, which wrap the model in training."""
        return objective(self, given)

    def read(self, visual_tokens: Tensor, captions: Tensor) -> Read:
        """Read C captions for each of B pictures.

        Args: visual_tokens float [B, P, W], or [B, 0, W] without pictures; captions int64 [B, C, T], each padded with
        IGNORE, which also fills whole rows if a picture has fewer captions.
        """
        prefix = visual_tokens[..., : self.decoder.config.n_embd]
        batch, count, _ = captions.shape
        inputs, labels = self._shift(captions)
        length = inputs.shape[2]
        packed = torch.cat((prefix, self.decoder.wte(inputs).flatten(1, 2).to(prefix.dtype)), 1)
        text = torch.arange(self.prefix_length, self.prefix_length + length, device=packed.device)
        positions = torch.cat((self._prefix_positions(prefix.shape[1]).to(packed.device), text.repeat(count)))
        mask = _packed_mask(prefix.shape[1], count, length, packed.device)
        hidden, _, _ = self.decoder(packed, positions, mask)
        labels = labels.flatten(1)
        counted = labels != IGNORE
        owners = torch.arange(batch * count, device=packed.device).repeat_interleave(length).view(batch, -1)
        return Read(self.decoder.logits(hidden[:, prefix.shape[1] :][counted]), labels[counted], owners[counted])

    def _prefix_positions(self, length: int) -> Tensor:
        """int64 [length]: without a picture, one token replaces the grid, and the words keep their positions."""
        positions = torch.arange(self.prefix_length)
        return (
            positions
            if length == self.prefix_length
            else torch.cat((positions[:1], positions[self.grid**2 :]))[:length]
        )

    def _shift(self, captions: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs that begin, and labels that end, with <|endoftext|>: int64 [B, C, T + 1] each.

        The end has its own label: if the padding had that label too, or neither were labelled, the model would never
        learn to stop.
        """
        edge = captions.new_full((*captions.shape[:2], 1), self.end_id)
        inputs = torch.cat((edge, captions.masked_fill(captions == IGNORE, self.end_id)), 2)
        labels = torch.cat((captions, captions.new_full(edge.shape, IGNORE)), 2)
        lengths = (captions != IGNORE).sum(2, keepdim=True)
        labels = labels.scatter(2, lengths, torch.where(lengths > 0, self.end_id, IGNORE))
        return inputs, labels

    def prefill(self, visual_tokens: Tensor) -> Decoded:
        """Read visual tokens float [B, P, W], or those of `unseen`, and the begin of text; predict the first word."""
        visual_tokens = visual_tokens[..., : self.decoder.config.n_embd]
        prefix, device = visual_tokens.shape[1], visual_tokens.device
        begin = self.decoder.wte.weight[self.end_id].expand(visual_tokens.shape[0], 1, -1)
        mask = torch.ones(prefix + 1, prefix + 1, dtype=torch.bool, device=device).tril()
        positions = torch.cat((self._prefix_positions(prefix), torch.tensor([self.prefix_length]))).to(device)
        hidden, presents, attentions = self.decoder(torch.cat((visual_tokens, begin), 1), positions, mask)
        decoded = self._decoded(prefix, hidden[:, -1:], presents, [attention[:, :, -1:] for attention in attentions])
        return decoded._replace(logits=decoded.logits[:, 0], attention=decoded.attention[:, 0])

    def step(
        self,
        tokens: Tensor,
        picture: Tensor | None,
        prefix_keys: Sequence[Tensor],
        prefix_values: Sequence[Tensor],
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
    ) -> Decoded:
        """Read T more tokens per row.

        Args: tokens int64 [R, T]; picture int64 [R], the row of the prefill that each belongs to, or None if that read
        one picture; prefix_keys and prefix_values from `prefill` for all pictures, shared by their captions; keys and
        values from the last step, or at first from `no_tokens`.
        """
        prefixes, own = (map(KeyValues, *pair) for pair in ((prefix_keys, prefix_values), (keys, values)))
        past = [Past(*layer, picture) for layer in zip(prefixes, own, strict=True)]
        earlier, length = keys[0].shape[2], tokens.shape[1]
        positions = self.prefix_length + 1 + earlier + torch.arange(length, device=tokens.device)
        mask = causal(earlier, length, tokens.device)
        prefix = prefix_keys[0].shape[2] - 1
        return self._decoded(prefix, *self.decoder(self.decoder.wte(tokens), positions, mask, past))

    @staticmethod
    def no_tokens(prefix_keys: Sequence[Tensor], rows: int) -> tuple[Tensor, ...]:
        """Each layer's keys, or values, for captions without a token yet: float [rows, heads, 0, head_width]."""
        return tuple(part.new_zeros(rows, part.shape[1], 0, part.shape[3]) for part in prefix_keys)

    def _decoded(self, prefix: int, hidden: Tensor, presents: list[KeyValues], attentions: list[Tensor]) -> Decoded:
        attention = torch.stack([attention.narrow(-1, 0, prefix) for attention in attentions]).mean((0, 2))
        keys, values = zip(*presents, strict=True)
        return Decoded(self.decoder.logits(hidden), attention, keys, values)

    def align(self, size: int) -> None:
        """Add an untrained `Alignment`, whose space is `size` wide."""
        classes = len(CLASSES) if self.words else 0
        alignment = Alignment(self.decoder.wte.num_embeddings, self.encoder.feature_width, size, classes)
        self.alignment = alignment.train(self.training)
        self.config = self.config.model_copy(update={"alignment": size})

    def cut_vocabulary(self, captions: list[str]) -> None:
        """Permanently drop the tokens that these captions do not need (see `cut_tokenizer`)."""
        tokenizer, kept = cut_tokenizer(self.tokenizer, captions)
        self.use_vocabulary(tokenizer, kept)

    def use_vocabulary(self, tokenizer: Tokenizer, kept: list[int]) -> None:
        """Use the ids of `tokenizer`; `kept` are its tokens' previous ids, whose embeddings they keep."""
        self.tokenizer = tokenizer
        if self.words is not None:
            self.words.spell(tokenizer)
        heads = [self.alignment.words, self.alignment.importance] if self.alignment else []
        for table in [self.decoder.wte, *heads]:
            table.weight = nn.Parameter(table.weight.data[kept])
            table.num_embeddings = len(kept)
        self.end_id = Language(self.decoder, tokenizer).end_id
        settings = self.decoder.config
        settings.vocab_size, settings.bos_token_id, settings.eos_token_id = len(kept), self.end_id, self.end_id

    def save(self, directory: Path) -> None:
        """Write model.json, tokenizer.json and model.safetensors, all that `load_model` needs."""
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
    """A model with its pretrained weights; `captions` are the training text that its vocabulary may be cut to.

    Raises RecipeError if weights cannot be found.
    """
    language = load_language(config.decoder.weights, config.decoder.dropout)
    model = VisionPrefixLM(config, build_encoder(config.encoder, None), language)
    if config.decoder.vocabulary == "corpus":
        model.cut_vocabulary(captions)
    return model


def load_model(directory: Path, dropout: float | None = None) -> VisionPrefixLM:
    """A model that `VisionPrefixLM.save` wrote, with this dropout in the decoder or, by default, the saved one.

    Raises TrainingError if it is missing or damaged.
    """
    try:
        description = json.loads((directory / "model.json").read_text(encoding="utf-8"))
        config = ModelConfig.model_validate(description["model"])
        if dropout is not None:
            config = config.model_copy(update={"decoder": config.decoder.model_copy(update={"dropout": dropout})})
        language = rebuild_language(description["decoder"], config.decoder.dropout, directory / "tokenizer.json")
        model = VisionPrefixLM(config, build_encoder(config.encoder, description["encoder"]), language)
        weights = load_file(directory / "model.safetensors")
        if model.alignment is not None and _TEACHER in weights:
            model.alignment.learn_from(weights[_TEACHER].shape[1])
        model.load_state_dict(weights)
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
    """float [pooled * pooled, grid * grid]: adaptive average pooling, which ONNX has no operator for, as a matrix."""
    identity = torch.eye(grid * grid).view(grid * grid, 1, grid, grid)
    return F.adaptive_avg_pool2d(identity, pooled).view(grid * grid, -1).T.contiguous()
