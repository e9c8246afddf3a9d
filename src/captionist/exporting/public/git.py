"""GIT (Wang et al. 2022, "GIT: A Generative Image-to-text Transformer for Vision and Language")."""

from torch import Tensor, nn
from transformers import GitForCausalLM

from captionist.exporting.public.bert import BertLayer, embed
from captionist.exporting.public.decoder import Decoder
from captionist.exporting.public.family import Model, one_id, pair


class _Encoder(nn.Module):
    def __init__(self, model: GitForCausalLM) -> None:
        super().__init__()
        self.tower, self.projection = model.git.image_encoder.vision_model, model.git.visual_projection

    def forward(self, pixels: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.tower(pixels).last_hidden_state)
        return projected


class _Decoder(Decoder):
    def __init__(self, model: GitForCausalLM, begin: int) -> None:
        layers = [BertLayer(layer) for layer in model.git.encoder.layer]
        super().__init__(layers, model.config.num_attention_heads, begin, crossing=False)
        self.embeddings, self.output = model.git.embeddings, model.output

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return embed(self.embeddings, tokens, positions)

    def logits(self, x: Tensor) -> Tensor:
        scores: Tensor = self.output(x)
        return scores


def take_apart(model: GitForCausalLM) -> Model:
    """Raises ValueError for a checkpoint that reads films."""
    config, generation = model.config, model.generation_config
    if config.num_image_with_embedding is not None:
        raise ValueError(f"it reads films, {config.num_image_with_embedding} pictures at once")
    return Model(
        encoder=_Encoder(model),
        decoder=_Decoder(model, one_id("begin token", generation.bos_token_id)),
        image=pair(config.vision_config.image_size),
        cell=pair(config.vision_config.patch_size),
        eos=one_id("end token", generation.eos_token_id),
        positions=config.max_position_embeddings,
    )
