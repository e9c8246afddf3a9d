"""A tiny CLIP with random weights in the hub's layout, like that of openai/clip-vit-base-patch32."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tests.tiny_bundle import SENTENCES

PIXELS = 32


def write_tiny_clip(directory: Path) -> Path:
    tokenizer = CLIPTokenizer().train_new_from_iterator(SENTENCES, vocab_size=600, show_progress=False)
    tokenizer.save_pretrained(directory)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    end = tokenizer.eos_token_id
    torch.manual_seed(1)  # with which pictures and sentences are on the same side: a cosine below 0 scores 0
    config = CLIPConfig(
        text_config=shape
        | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "bos_token_id": end - 1, "eos_token_id": end},
        vision_config=shape | {"image_size": PIXELS, "patch_size": 8},
        projection_dim=16,
        initializer_factor=5.0,  # so that random weights tell sentences and pictures apart
    )
    CLIPModel(config).save_pretrained(directory)
    preprocessing = {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "do_resize": True,
        "size": PIXELS,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": PIXELS,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessing), encoding="utf-8")
    return directory
