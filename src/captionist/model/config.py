"""What a model is made of. The `model` part of a recipe is a `ModelConfig`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _VitConfig(_Config):
    weights: str = Field(description="a name on the Hugging Face hub, or a directory in the same layout")
    resolution: int = Field(224, ge=16, description="height and width of the model's input in pixels")


class VitConfig(_VitConfig):
    """A plain Vision Transformer from transformers: ViT, DeiT, DINOv2.

    Its pixel statistics are part of the recipe because the weights do not work with any others.
    """

    family: Literal["vit"] = "vit"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ClipConfig(_VitConfig):
    """CLIP's vision tower (Radford et al. 2021, arXiv:2103.00020), by itself or in a whole CLIP."""

    family: Literal["clip"] = "clip"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


class SiglipConfig(_VitConfig):
    """SigLIP's vision tower (Zhai et al. 2023, arXiv:2303.15343), by itself or in a whole SigLIP."""

    family: Literal["siglip"] = "siglip"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


class HybridConfig(_Config):
    """A hybrid ViT: transformer blocks over a CNN's feature map (Dosovitskiy et al. 2021, section 3.1)."""

    family: Literal["hybrid"] = "hybrid"
    stem_weights: str = Field(description="a directory with EfficientNet-Lite2's model.safetensors")
    weights: str = Field(description="a DINOv2 checkpoint, from which the transformer blocks start")
    blocks: int = Field(2, ge=0, description="how many blocks; they start from the checkpoint's last ones")
    resolution: int = Field(224, ge=32, multiple_of=32)


EncoderConfig = Annotated[VitConfig | ClipConfig | SiglipConfig | HybridConfig, Field(discriminator="family")]


class DecoderConfig(_Config):
    """GPT-2, from the hub or a directory in the same layout."""

    weights: str
    vocabulary: Literal["full", "corpus"] = Field(
        "full", description="corpus: only the tokens that the training captions need, and every single byte"
    )
    dropout: float = Field(0.1, ge=0, lt=1)


class WordsConfig(_Config):
    """Words seen, which come after the visual tokens of the grid; see `model.words`."""

    detector: str = Field(description="a directory with nanodet-g.onnx")
    objects: int = Field(8, ge=0, le=80, description="so many of the detector's classes")
    nouns: int = Field(3, ge=0, description="so many nouns of the stem's ImageNet classifier")


class ModelConfig(_Config):
    """Encoder, decoder and the length of the visual prefix between them."""

    encoder: EncoderConfig
    decoder: DecoderConfig
    prefix_grid: int | None = Field(
        None, ge=1, description="visual tokens are average-pooled to this grid; none: the encoder's own"
    )
    words: WordsConfig | None = Field(None, description="words seen; none: the visual tokens are all there is")
    alignment: int | None = Field(
        None, ge=1, description="width of the space in which pictures and sentences are compared; none: no such space"
    )
