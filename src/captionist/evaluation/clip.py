"""A CLIP from transformers (Radford et al. 2021) as the judge of captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, CLIPModel, CLIPTokenizer

from captionist.errors import ScoreError
from captionist.images import ImageFile, decode

_PROMPT = "A photo depicts "  # by Hessel et al. 2021, before candidates and references alike


class Clip:
    """A CLIP with its own tokenizer and image processor; a `matching.Judge`. It runs in float32 on the CPU."""

    def __init__(self, name: str) -> None:
        """name: a repository on the hub, or a directory in the hub's layout. Raises ScoreError if it is no CLIP."""
        self.clip = name
        try:
            kind = AutoConfig.from_pretrained(name).model_type
            if kind != "clip":
                raise ScoreError(f"{name} is not a CLIP but a model of type {kind!r}: {_WANTED}")
            self._model, loading = CLIPModel.from_pretrained(name, output_loading_info=True, dtype=torch.float32)
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(name)
            # Pillow's resizing, as in the paper; torchvision, if installed, would give other pixels.
            self._processor: Any = AutoImageProcessor.from_pretrained(name, backend="pil")
        except (OSError, ValueError, SafetensorError) as error:  # raised by transformers for what it cannot read
            raise ScoreError(f"{name} cannot be loaded as a CLIP ({str(error).splitlines()[0]}): {_WANTED}") from error
        if missing := loading["missing_keys"]:
            raise ScoreError(f"{name} lacks {len(missing)} of a CLIP's weights, such as {min(missing)}: {_WANTED}")
        known = self._model.config.text_config.vocab_size
        if len(self._tokenizer) != known:
            raise ScoreError(
                f"{name}: its tokenizer has {len(self._tokenizer):,} tokens, its model {known:,}: {_WANTED}"
            )
        self._model.eval()

    @torch.inference_mode()
    def images(self, pictures: Sequence[ImageFile]) -> NDArray[np.float32]:
        """Picture files -> unit vectors float32 [B, E]. Raises ImageError."""
        pixels = self._processor(
            images=[decode(picture) for picture in pictures],
            input_data_format="channels_last",
            return_tensors="pt",
        )["pixel_values"]
        return _unit(self._model.visual_projection(self._model.vision_model(pixels).pooler_output))

    @torch.inference_mode()
    def sentences(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentences, cut at the text tower's length -> unit vectors float32 [B, E]."""
        tokens = self._tokenizer(
            [_PROMPT + text for text in texts],
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        return _unit(self._model.text_projection(self._model.text_model(**tokens).pooler_output))


_WANTED = (
    "name a CLIP on the hub, such as openai/clip-vit-base-patch32, or a directory with its config.json, weights, "
    "tokenizer and preprocessor_config.json."
)


def _unit(embeddings: torch.Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = F.normalize(embeddings, dim=-1).numpy()
    return found
