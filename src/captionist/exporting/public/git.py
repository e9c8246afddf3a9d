"""GIT (Wang et al. 2022, "GIT: A Generative Image-to-text Transformer for Vision and Language")."""

from transformers import GitForCausalLM

from captionist.exporting.public.bert import BertDecoder
from captionist.exporting.public.family import Model, Tower, one_id, pair


def take_apart(model: GitForCausalLM) -> Model:
    """Raises ValueError for a checkpoint that reads videos."""
    config, generation = model.config, model.generation_config
    if config.num_image_with_embedding is not None:
        raise ValueError(f"it reads videos, {config.num_image_with_embedding} pictures at once")
    return Model(
        encoder=Tower(model.git.image_encoder.vision_model, model.git.visual_projection),
        decoder=BertDecoder(model.git, model.output, one_id("begin token", generation.bos_token_id), crossing=False),
        image=pair(config.vision_config.image_size),
        cell=pair(config.vision_config.patch_size),
        eos=one_id("end token", generation.eos_token_id),
        positions=config.max_position_embeddings,
    )
