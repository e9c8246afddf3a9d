"""transformers' VisionEncoderDecoderModel with ViT, DeiT or Swin and GPT-2."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import VisionEncoderDecoderModel

from captionist.exporting.public.decoder import Decoder, Layer
from captionist.exporting.public.family import Model, Tower, one_id, pair

_TOWERS = ("vit", "deit", "swin")


def _product(x: Tensor, weights: Any) -> Tensor:
    """transformers' Conv1D, in the form that can be converted to int8."""
    product: Tensor = x @ weights.weight + weights.bias
    return product


class _Layer(Layer):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def project(self, x: Tensor) -> Sequence[Tensor]:
        return _product(self.block.ln_1(x), self.block.attn.c_attn).chunk(3, 2)

    def attended(self, x: Tensor, context: Tensor) -> Tensor:
        return x + _product(context, self.block.attn.c_proj)

    def cross_query(self, x: Tensor) -> Tensor:
        return _product(self.block.ln_cross_attn(x), self.block.crossattention.q_attn)

    def cross_project(self, visual_tokens: Tensor) -> Sequence[Tensor]:
        return _product(visual_tokens, self.block.crossattention.c_attn).chunk(2, 2)

    def cross_attended(self, x: Tensor, context: Tensor) -> Tensor:
        return x + _product(context, self.block.crossattention.c_proj)

    def feed(self, x: Tensor) -> Tensor:
        mlp = self.block.mlp
        return x + _product(mlp.act(_product(self.block.ln_2(x), mlp.c_fc)), mlp.c_proj)


class _Decoder(Decoder):
    def __init__(self, model: VisionEncoderDecoderModel, begin: int) -> None:
        gpt2 = model.decoder.transformer
        super().__init__([_Layer(block) for block in gpt2.h], gpt2.config.n_head, begin, crossing=True)
        self.words, self.places, self.norm, self.head = gpt2.wte, gpt2.wpe, gpt2.ln_f, model.decoder.lm_head

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = self.words(tokens) + self.places(positions)
        return x

    def logits(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.norm(x))
        return scores


def take_apart(model: VisionEncoderDecoderModel) -> Model:
    """Raises ValueError for an encoder or a decoder of another kind."""
    encoder, decoder, generation = model.config.encoder, model.config.decoder, model.generation_config
    if encoder.model_type not in _TOWERS or decoder.model_type != "gpt2":
        raise ValueError(f"it is {encoder.model_type} with {decoder.model_type}, not ViT, DeiT or Swin with GPT-2")
    if decoder.scale_attn_by_inverse_layer_idx or not decoder.scale_attn_weights:
        raise ValueError("its GPT-2 scales attention in an unusual way")
    start = generation.decoder_start_token_id
    height, width = pair(encoder.patch_size)
    merged = 2 ** (len(encoder.depths) - 1) if encoder.model_type == "swin" else 1
    return Model(
        encoder=Tower(model.encoder, getattr(model, "enc_to_dec_proj", None)),
        decoder=_Decoder(model, one_id("begin token", generation.bos_token_id if start is None else start)),
        image=pair(encoder.image_size),
        cell=(height * merged, width * merged),
        eos=one_id("end token", generation.eos_token_id),
        positions=decoder.n_positions,
    )
