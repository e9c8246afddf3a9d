"""A bundle's model in eager torch, and its decoder as transformers' own GPT-2, to run as others would."""

from pathlib import Path

from transformers import GPT2LMHeadModel

from captionist.bundle import Bundle
from captionist.model.fusion import VisionPrefixLM
from captionist.model.restore import load_bundle
from captionist.training.recipe import load_recipe

_RECIPE = Path("recipes/captionist-small.yaml")  # describes the embedded model


def restore(bundle: Bundle) -> VisionPrefixLM:
    """The model, in evaluation mode."""
    model = load_bundle(bundle, load_recipe(_RECIPE).model).eval()
    model.encoder.settings._attn_implementation = "sdpa"  # as others run it
    return model


def as_transformers(model: VisionPrefixLM) -> GPT2LMHeadModel:
    """The model's decoder."""
    settings = model.decoder.config
    settings.pad_token_id = settings.eos_token_id
    state = {}
    for name, weight in model.decoder.state_dict().items():
        place = name.replace("blocks.", "h.")
        if ".attn" not in place:
            place = place.replace(".c_fc", ".mlp.c_fc").replace(".c_proj", ".mlp.c_proj")
        # transformers' Conv1D keeps its matrices transposed.
        transposed = weight.ndim == 2 and place.startswith("h.")
        state[f"transformer.{place}"] = weight.T.contiguous() if transposed else weight
    decoder = GPT2LMHeadModel(settings).eval()
    missing, unexpected = decoder.load_state_dict(state, strict=False)
    if missing != ["lm_head.weight"] or unexpected:
        raise ValueError(f"{missing} or {unexpected} do not fit transformers' GPT-2")
    decoder.tie_weights()
    return decoder
