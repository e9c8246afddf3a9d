"""The encoders: pixels in, visual tokens on a square grid out.

Every encoder has two parts. The backbone is what a stage may freeze, and then its output (the features) is cached
on disk once; the neck always trains. In a plain ViT everything is backbone; in a hybrid the CNN stem is, and the
transformer blocks are the neck.
"""

import inspect
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, Dinov2Config, Dinov2Model
from transformers.models.dinov2.modeling_dinov2 import Dinov2Layer

from captionist.errors import RecipeError
from captionist.model import stem
from captionist.model.config import ClipConfig, EncoderConfig, HybridConfig, SiglipConfig, VitConfig

_FIRST_SCALE = 0.1
_MODEL_TYPES = {
    "vit": ("vit", "deit", "dinov2", "dinov2_with_registers"),
    "clip": ("clip", "clip_vision_model"),
    "siglip": ("siglip", "siglip_vision_model"),
}
"""transformers' names for the types of checkpoint that each family can start from."""


class Encoder(nn.Module):
    """Pixels float [B, 3, H, W] -> visual tokens float [B, grid * grid, width], row by row from the top left."""

    settings: Any
    """The configuration of the transformer, as transformers defines it."""
    grid: int
    width: int
    feature_width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def backbone(self, pixels: Tensor) -> Tensor:
        """Pixels float [B, 3, H, W] -> features float [B, grid * grid, feature_width]."""
        raise NotImplementedError

    def neck(self, features: Tensor, pooling: Tensor | None = None) -> Tensor:
        """Features float [B, grid * grid, feature_width] -> visual tokens float [B, P, width].

        `pooling` float [P, grid * grid] reduces their number; without it P is grid * grid.
        """
        raise NotImplementedError

    def backbone_modules(self) -> list[nn.Module]:
        """The backbone's parts from the input on, in the order in which a stage may freeze them."""
        raise NotImplementedError

    def neck_parameters(self) -> list[nn.Parameter]:
        """The neck's parameters: all that are not the backbone's."""
        backbone = {parameter for module in self.backbone_modules() for parameter in module.parameters()}
        return [parameter for parameter in self.parameters() if parameter not in backbone]

    def architecture(self) -> dict[str, Any]:
        """What `build_encoder` needs, beside the configuration, to rebuild this encoder without its weights."""
        return dict(self.settings.to_dict())

    def forward(self, pixels: Tensor) -> Tensor:
        return self.neck(self.backbone(pixels))


class VitEncoder(Encoder):
    """A ViT of transformers (ViT, DeiT, DINOv2); class and register tokens are dropped."""

    def __init__(self, config: VitConfig | ClipConfig | SiglipConfig, vit: Any) -> None:
        super().__init__()
        self.vit = vit
        self._drop_unused()
        settings = self.settings = vit.config
        if config.resolution % settings.patch_size:
            raise RecipeError(
                f"model.encoder.resolution is {config.resolution}, which patches of {settings.patch_size} pixels "
                f"do not fill: take a multiple of {settings.patch_size}."
            )
        self.grid = config.resolution // settings.patch_size
        self.width = self.feature_width = settings.hidden_size
        self.mean, self.std = config.mean, config.std
        # Only models that do not resize their position embeddings themselves have this argument.
        resize = "interpolate_pos_encoding" in inspect.signature(vit.forward).parameters
        self._options = (
            {"interpolate_pos_encoding": True} if resize and config.resolution != settings.image_size else {}
        )

    def _drop_unused(self) -> None:
        # Our inputs never pass through these, and with several processes a parameter without a gradient stops training.
        self.vit.pooler = self.vit.embeddings.mask_token = None

    def backbone(self, pixels: Tensor) -> Tensor:
        states: Tensor = self.vit(pixels, **self._options).last_hidden_state
        return states[:, -self.grid * self.grid :]

    def neck(self, features: Tensor, pooling: Tensor | None = None) -> Tensor:
        return features if pooling is None else pooling @ features

    def backbone_modules(self) -> list[nn.Module]:
        return [self.vit.embeddings, *self._layers(), self.vit.layernorm]

    def _layers(self) -> nn.ModuleList:
        return next(module for module in self.vit.modules() if isinstance(module, nn.ModuleList))


class ClipEncoder(VitEncoder):
    """CLIP's vision tower up to its last layer but one."""

    def _drop_unused(self) -> None:
        # CLIP's loss sees only the class token, so what the last layer makes of the patches was never trained, and the
        # norm after it is the class token's. LLaVA (Liu et al. 2023) also takes the layer before.
        self.vit.encoder.layers = self.vit.encoder.layers[:-1]
        self.vit.post_layernorm = nn.Identity()

    def backbone_modules(self) -> list[nn.Module]:
        return [self.vit.embeddings, self.vit.pre_layrnorm, *self._layers()]


class SiglipEncoder(VitEncoder):
    """SigLIP's vision tower without the head that pools its patches."""

    def _drop_unused(self) -> None:
        # There is no class token: the head reads every patch, so the last layer and its norm are trained for patches.
        # PaliGemma (Beyer et al. 2024) takes them there, too.
        self.vit.head, self.vit.use_head = None, False

    def backbone_modules(self) -> list[nn.Module]:
        return [self.vit.embeddings, *self._layers(), self.vit.post_layernorm]


_ENCODERS = {"vit": VitEncoder, "clip": ClipEncoder, "siglip": SiglipEncoder}


class HybridEncoder(Encoder):
    """EfficientNet-Lite2's feature map, projected and refined by transformer blocks in DINOv2's layout."""

    mean, std = stem.MEAN, stem.STD
    feature_width = stem.OUTPUT_CHANNELS

    def __init__(self, config: HybridConfig, settings: Dinov2Config) -> None:
        super().__init__()
        self.settings = settings
        self.grid = config.resolution // stem.STRIDE
        self.width = settings.hidden_size
        self.stem = stem.EfficientNetLite2()
        self.embed = nn.Linear(self.feature_width, self.width)
        self.positions = nn.Parameter(torch.zeros(self.grid * self.grid, self.width))
        self.blocks = nn.ModuleList(Dinov2Layer(settings) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(self.width, eps=settings.layer_norm_eps)

    def backbone(self, pixels: Tensor) -> Tensor:
        # The convolutions of CPU and GPU want channels last; it changes the layout, not the values.
        features: Tensor = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        return features.flatten(2).transpose(1, 2)

    def neck(self, features: Tensor, pooling: Tensor | None = None) -> Tensor:
        positions: Tensor = self.positions
        if features.shape[1] != len(positions):
            positions = _resize(positions, math.isqrt(features.shape[1]))
        if pooling is not None:  # before the blocks, which then have fewer tokens to process
            features, positions = pooling @ features, pooling.to(positions.dtype) @ positions
        x = self.embed(features) + positions
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def backbone_modules(self) -> list[nn.Module]:
        return [self.stem.stem, *self.stem.blocks, self.stem.head]

    def load_pretrained(self, config: HybridConfig) -> None:
        """Start the stem from ImageNet, the blocks and positions from the DINOv2 checkpoint (its last blocks)."""
        path = Path(config.stem_weights) / "model.safetensors"
        if not path.is_file():
            raise RecipeError(f"{path} does not exist: in a checkout, `python -m recipes.starting_weights` makes it.")
        try:
            self.stem.load_imagenet(load_file(path))
        except (KeyError, RuntimeError, SafetensorError) as error:
            raise RecipeError(f"{path} does not hold EfficientNet-Lite2's weights: {error}") from error
        vit = Dinov2Model.from_pretrained(config.weights)
        layers = vit.encoder.layer
        if config.blocks > len(layers):
            raise RecipeError(
                f"model.encoder.blocks is {config.blocks}, but the checkpoint at {config.weights!r} has {len(layers)}."
            )
        for ours, theirs in zip(self.blocks, layers[len(layers) - config.blocks :], strict=True):
            ours.load_state_dict(theirs.state_dict())
            # The blocks were made for another input: a small LayerScale (Touvron et al. 2021) first lets the stem's
            # features through, and training turns the blocks up as they come to fit.
            for name, parameter in ours.named_parameters():
                if name.endswith("lambda1"):
                    nn.init.constant_(parameter, _FIRST_SCALE)
        self.positions.data = _resize(vit.embeddings.position_embeddings.data[0, 1:], self.grid)


def _resize(positions: Tensor, grid: int) -> Tensor:
    """Position embeddings float [N, width] of a square grid, resized to another side: float [grid * grid, width]."""
    side = math.isqrt(len(positions))
    square = positions.T.reshape(1, -1, side, side)
    resized = F.interpolate(square, (grid, grid), mode="bicubic", antialias=True)
    return resized[0].flatten(1).T.contiguous()


def build_encoder(config: EncoderConfig, architecture: dict[str, Any] | None) -> Encoder:
    """An encoder with pretrained weights, or, given an `architecture`, one whose weights the caller will load.

    Raises RecipeError if the pretrained weights cannot be found, or are another model's.
    """
    try:
        if isinstance(config, HybridConfig):
            settings = (
                Dinov2Config.from_dict(architecture) if architecture else Dinov2Config.from_pretrained(config.weights)
            )
            settings._attn_implementation = "eager"  # faster than the fused one on a CPU for so few tokens
            hybrid = HybridEncoder(config, settings)
            if architecture is None:
                hybrid.load_pretrained(config)
            return hybrid
        if architecture:
            model = AutoModel.from_config(AutoConfig.for_model(**architecture))
            return _ENCODERS[config.family](config, _tower(model))
        return _load_pretrained(config)
    # What transformers raises for a name or directory that it cannot read, or whose parts do not fit together.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise RecipeError(f"No encoder weights at {config.weights!r}: {error}") from error


def _load_pretrained(config: VitConfig | ClipConfig | SiglipConfig) -> VitEncoder:
    found = AutoConfig.from_pretrained(config.weights).model_type
    if found not in _MODEL_TYPES[config.family]:
        raise RecipeError(
            f"{config.weights!r} holds a model of the type {found!r}, but model.encoder.family {config.family!r} is "
            f"taken from {' or '.join(_MODEL_TYPES[config.family])}: name another checkpoint, or another family."
        )
    model, report = AutoModel.from_pretrained(config.weights, dtype=torch.float32, output_loading_info=True)
    encoder = _ENCODERS[config.family](config, _tower(model))
    kept = encoder.vit.state_dict().keys()
    missing = sorted(name for name in report["missing_keys"] if name.removeprefix("vision_model.") in kept)
    if missing:  # transformers has drawn these at random
        raise RecipeError(f"{config.weights!r} lacks {len(missing)} of the encoder's weights, such as {missing[0]}.")
    return encoder


def _tower(model: Any) -> Any:
    """The vision tower of a whole CLIP or SigLIP; a tower by itself stays as it is."""
    return getattr(model, "vision_model", model)
