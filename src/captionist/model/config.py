"""What a model is made of. The `model` part of a recipe is a `ModelConfig`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VitConfig(_Config):
    """A plain Vision Transformer from transformers: ViT, DeiT, DINOv2.

    Its pixel statistics are part of the recipe because the weights do not work with any others.
    """

    family: Literal["vit"] = "vit"
    weights: str = Field(description="a name on the Hugging Face hub, or a directory in the same layout")
    resolution: int = Field(224, ge=16, description="height and width of the model's input in pixels")
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class HybridConfig(_Config):
    """A hybrid ViT: transformer blocks over a CNN's feature map (Dosovitskiy et al. 2021, section 3.1)."""

    family: Literal["hybrid"] = "hybrid"
    stem_weights: str = Field(description="a directory with EfficientNet-Lite2's model.safetensors")
    weights: str = Field(description="a DINOv2 checkpoint, from which the transformer blocks start")
    blocks: int = Field(2, ge=0, description="how many blocks; they start from the checkpoint's last ones")
    resolution: int = Field(224, ge=32, multiple_of=32)


EncoderConfig = Annotated[VitConfig | HybridConfig, Field(discriminator="family")]


class DecoderConfig(_Config):
    """GPT-2, from the hub or a directory in the same layout."""

    weights: str
    vocabulary: Literal["full", "corpus"] = Field(
        "full", description="corpus: only the tokens that the training captions need, and every single byte"
    )
    dropout: float = Field(0.1, ge=0, lt=1)


class ModelConfig(_Config):
    """Encoder, decoder and the length of the visual prefix between them."""

    encoder: EncoderConfig
    decoder: DecoderConfig
    prefix_grid: int | None = Field(
        None, ge=1, description="visual tokens are average-pooled to this grid; none: the encoder's own"
    )
    alignment: int | None = Field(
        None, ge=1, description="width of the space in which pictures and sentences are compared; none: no such space"
    )
