"""BLIP (Li et al. 2022, "BLIP: Bootstrapping Language-Image Pre-training")."""

from transformers import BlipForConditionalGeneration

from captionist.exporting.public.bert import BertDecoder
from captionist.exporting.public.family import Model, Tower, one_id, pair


def take_apart(model: BlipForConditionalGeneration) -> Model:
    """Captions begin and end as in transformers' own `generate`: with `bos` and `sep`, whatever `eos` is."""
    decoder, text, vision = model.text_decoder, model.config.text_config, model.config.vision_config
    return Model(
        encoder=Tower(model.vision_model),
        decoder=BertDecoder(decoder.bert, decoder.cls, one_id("begin token", text.bos_token_id), crossing=True),
        image=pair(vision.image_size),
        cell=pair(vision.patch_size),
        eos=one_id("separator", text.sep_token_id),
        positions=text.max_position_embeddings,
    )
