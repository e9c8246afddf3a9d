"""Tiny, randomly initialised checkpoints in the hub's layout, so that tests load what a recipe would."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    CLIPVisionModelWithProjection,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    GPT2Config,
    GPT2LMHeadModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

from captionist.model.config import ClipConfig, DecoderConfig, EncoderConfig, HybridConfig, ModelConfig, VitConfig
from captionist.model.config import SiglipConfig as SiglipEncoderConfig
from captionist.model.fusion import VisionPrefixLM, build_model
from tests.model.tiny_nanodet import save_nanodet

WIDTH, PATCH, SIZE = 32, 8, 32
CAPTIONS = (
    "a red circle on a dark field .",
    "a green square stands on a dark field .",
    "two dogs run over the green grass .",
    "a yellow triangle and a blue bar .",
    "a man in a red shirt climbs a dark rock .",
)
MEAN = (0.5, 0.4, 0.3)
STD = (0.5, 0.4, 0.6)
VIT_FAMILIES = ("vit", "deit", "dinov2", "registers", "clip", "siglip")

# Repeats, kernel, expansion and channels of each stage of EfficientNet-Lite2, after the paper and its Lite variant.
LITE2_STAGES = (
    (1, 3, 1, 16),
    (3, 3, 6, 24),
    (3, 5, 6, 48),
    (4, 3, 6, 88),
    (4, 5, 6, 120),
    (5, 5, 6, 208),
    (1, 3, 6, 352),
)


@dataclass(frozen=True)
class Checkpoints:
    """A directory with one checkpoint of each kind in it."""

    root: Path

    def path(self, name: str) -> str:
        return str(self.root / name)

    def vit(self, family: str = "vit", resolution: int = SIZE) -> VitConfig | ClipConfig | SiglipEncoderConfig:
        if family.startswith("clip"):
            return ClipConfig(weights=self.path(family), resolution=resolution)
        if family.startswith("siglip"):
            return SiglipEncoderConfig(weights=self.path(family), resolution=resolution)
        return VitConfig(weights=self.path(family), resolution=resolution, mean=MEAN, std=STD)

    def hybrid(self, blocks: int = 2, resolution: int = 64) -> HybridConfig:
        return HybridConfig(
            stem_weights=self.path("lite2"), weights=self.path("dinov2"), blocks=blocks, resolution=resolution
        )

    def config(self, encoder: EncoderConfig, prefix_grid: int | None = None) -> ModelConfig:
        return ModelConfig(encoder=encoder, decoder=DecoderConfig(weights=self.path("gpt2")), prefix_grid=prefix_grid)

    def model(self, encoder: EncoderConfig | None = None, prefix_grid: int | None = None) -> VisionPrefixLM:
        """A model in evaluation mode; the same arguments give the same weights."""
        torch.manual_seed(0)
        return build_model(self.config(encoder or self.vit(), prefix_grid), []).eval()


def plain_forward(model: VisionPrefixLM, prefix: Tensor, caption: list[int]) -> tuple[Tensor, Tensor]:
    """Plain causal attention of one picture over [prefix | begin | caption], with nothing cached.

    prefix float [1, P, D]. Returns logits float [len(caption) + 1, V] and what the last token looks at, float
    [layers, heads, S].
    """
    text = model.decoder.wte(torch.tensor([[model.end_id, *caption]]))
    length = prefix.shape[1] + text.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    hidden, _, attention = model.decoder(torch.cat((prefix, text), 1), torch.arange(length), mask)
    return model.decoder.logits(hidden[0, prefix.shape[1] :]), torch.stack(attention)[:, 0, :, -1]


def make_checkpoints(root: Path) -> Checkpoints:
    torch.manual_seed(0)
    shape = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "patch_size": PATCH,
        # Larger than the usual 0.02, so that random weights make outputs that differ by more than rounding.
        "initializer_range": 0.2,
    }
    _varied(ViTModel(ViTConfig(intermediate_size=64, **shape))).save_pretrained(root / "vit")
    _varied(DeiTModel(DeiTConfig(intermediate_size=64, **shape))).save_pretrained(root / "deit")
    _varied(Dinov2Model(Dinov2Config(mlp_ratio=2, **shape))).save_pretrained(root / "dinov2")
    registers = Dinov2WithRegistersConfig(mlp_ratio=2, num_register_tokens=3, **shape)
    _varied(Dinov2WithRegistersModel(registers)).save_pretrained(root / "registers")
    save_gpt2(root / "gpt2")
    save_gpt2(root / "gpt2-exact", activation_function="gelu")
    (root / "lite2").mkdir()
    save_file(lite2_weights(), root / "lite2" / "model.safetensors")
    save_nanodet(root / "nanodet")
    # Last, since all are drawn from one stream, and what the others learn in tests depends on where they start.
    save_towers(root, shape | {"num_hidden_layers": 3, "intermediate_size": 64})
    return Checkpoints(root)


def save_towers(root: Path, vision: dict[str, Any]) -> None:
    """CLIP and SigLIP in every layout that the hub has: whole, the vision tower with and without projection, text."""
    text = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 50,
        "max_position_embeddings": 8,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    clip = _varied(CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)))
    siglip = _varied(SiglipModel(SiglipConfig(vision_config=vision, text_config=text)))
    for name, model in (("clip", clip), ("siglip", siglip)):
        model.save_pretrained(root / name)
        model.vision_model.save_pretrained(root / f"{name}-tower")
    projected = CLIPVisionModelWithProjection(clip.vision_model.config)
    projected.vision_model.load_state_dict(clip.vision_model.state_dict())
    projected.save_pretrained(root / "clip-projected")
    CLIPTextModel(clip.text_model.config).save_pretrained(root / "clip-text")


def save_gpt2(directory: Path, **settings: Any) -> None:
    """A GPT-2 with the byte-level BPE that `CAPTIONS` give. settings: of `GPT2Config`."""
    directory.mkdir()
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(iter([" " + c for c in CAPTIONS]), 360, min_frequency=1, show_progress=False)
    trained.save_model(str(directory))
    vocabulary = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    end = vocabulary["<|endoftext|>"] = len(vocabulary)  # the last one, as GPT-2's is
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    shape = {"n_positions": 64, "n_embd": WIDTH, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}
    config = GPT2Config(vocab_size=len(vocabulary), bos_token_id=end, eos_token_id=end, **(shape | settings))
    _varied(GPT2LMHeadModel(config)).save_pretrained(directory)


def lite2_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite2 as the package efficientnet-lite-pytorch names it, batch norms and classifier included."""
    weights: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)

    def conv(name: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        deviation = (2 / (inputs * kernel**2)) ** 0.5
        weights[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * deviation
        weights[f"{norm}.weight"] = torch.rand(outputs, generator=generator) + 0.5
        weights[f"{norm}.bias"] = torch.randn(outputs, generator=generator)
        weights[f"{norm}.running_mean"] = torch.randn(outputs, generator=generator) * 0.2
        weights[f"{norm}.running_var"] = torch.rand(outputs, generator=generator) + 0.5
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    conv("_conv_stem", "_bn0", 32, 3, 3)
    inputs, index = 32, 0
    for repeats, kernel, expansion, channels in LITE2_STAGES:
        for _ in range(repeats):
            block, hidden = f"_blocks.{index}.", inputs * expansion
            if expansion > 1:
                conv(f"{block}_expand_conv", f"{block}_bn0", hidden, inputs, 1)
            conv(f"{block}_depthwise_conv", f"{block}_bn1", hidden, 1, kernel)
            conv(f"{block}_project_conv", f"{block}_bn2", channels, hidden, 1)
            inputs, index = channels, index + 1
    conv("_conv_head", "_bn1", 1280, inputs, 1)
    weights["_fc.weight"], weights["_fc.bias"] = torch.randn(1000, 1280, generator=generator), torch.zeros(1000)
    return weights


def _varied(model: Any) -> Any:
    """Biases and norms start as zeros and ones, which would hide a mix-up."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model
