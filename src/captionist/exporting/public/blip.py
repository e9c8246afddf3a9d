"""BLIP (Li et al. 2022, "BLIP: Bootstrapping Language-Image Pre-training")."""

from torch import Tensor, nn
from transformers import BlipForConditionalGeneration

from captionist.exporting.public.bert import BertLayer, embed
from captionist.exporting.public.decoder import Decoder
from captionist.exporting.public.family import Model, one_id, pair


class _Encoder(nn.Module):
    def __init__(self, model: BlipForConditionalGeneration) -> None:
        super().__init__()
        self.tower = model.vision_model

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.tower(pixels).last_hidden_state
        return tokens


class _Decoder(Decoder):
    def __init__(self, model: BlipForConditionalGeneration, begin: int) -> None:
        text = model.text_decoder
        layers = [BertLayer(layer) for layer in text.bert.encoder.layer]
        super().__init__(layers, text.config.num_attention_heads, begin, crossing=True)
        self.embeddings, self.head = text.bert.embeddings, text.cls

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return embed(self.embeddings, tokens, positions)

    def logits(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(x)
        return scores


def take_apart(model: BlipForConditionalGeneration) -> Model:
    """Begins and ends as transformers' own `generate` does: with `bos` and `sep`, whatever `eos` says."""
    text, vision = model.config.text_config, model.config.vision_config
    return Model(
        encoder=_Encoder(model),
        decoder=_Decoder(model, one_id("begin token", text.bos_token_id)),
        image=pair(vision.image_size),
        cell=pair(vision.patch_size),
        eos=one_id("separator", text.sep_token_id),
        positions=text.max_position_embeddings,
    )
