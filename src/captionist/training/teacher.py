"""A sentence encoder trained on much text, whose space the heads learn: MiniLM, or another in its layout.

It is slow, so each sentence is read once, and its vectors are kept on disk.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertModel

from captionist.errors import RecipeError
from captionist.inference.class_words import words_of
from captionist.training.cache import open_array

_TOGETHER = 64  # sentences of similar length that are read at a time
_LONGEST = 40  # tokens, more than a caption has


class Teacher:
    """A sentence encoder's vectors of the captions of some sources."""

    def __init__(self, weights: Path, cache: Path, references: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """weights: a directory with transformers' BertModel and tokenizer.json; references: by source, each example's
        captions. Raises RecipeError if there is no such model."""
        self._weights, self._cache, self._references = weights, cache, references
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (weights / name).is_file():
                raise RecipeError(
                    f"data.teacher: {weights / name} does not exist: in a checkout, `python -m "
                    "recipes.starting_weights` makes it."
                )
        self._sources: dict[str, tuple[NDArray[np.int64], NDArray[np.float16]]] = {}

    @cached_property
    def width(self) -> int:
        """W, of its vectors."""
        width: int = BertModel.config_class.from_pretrained(self._weights).hidden_size
        return width

    def vectors(self, source: str, rows: NDArray[np.int64], count: int) -> Tensor:
        """Unit vectors of the captions of a source's examples, zeros where one has fewer: float32 [B, count, W]."""
        if source not in self._sources:
            references = self._references[source]
            first = np.cumsum([0, *map(len, references)])  # where each example's vectors begin
            self._sources[source] = first, self.read([text for texts in references for text in texts])
        first, vectors = self._sources[source]
        found = torch.zeros(len(rows), count, self.width)
        for place, row in enumerate(rows):
            own = torch.from_numpy(np.array(vectors[first[row] : first[row + 1]], np.float32))
            found[place, : len(own)] = own
        return found

    def read(self, sentences: Sequence[str]) -> NDArray[np.float16]:
        """Unit vectors of N sentences: float16 [N, W], memory-mapped."""
        texts = [" ".join(words_of(sentence)) for sentence in sentences]
        digest = hashlib.sha256((self._weights / "model.safetensors").read_bytes())
        digest.update("\n".join(texts).encode())

        def fill(array: NDArray[Any]) -> None:
            order = np.argsort([len(text) for text in texts], kind="stable")
            for start in range(0, len(order), _TOGETHER):
                some = order[start : start + _TOGETHER]
                array[some] = self._encode([texts[number] for number in some])

        path = self._cache / f"sentences-{digest.hexdigest()[:16]}.npy"
        return open_array(path, np.float16, (len(texts), self.width), fill)

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([each.ids for each in encoded])
        known = torch.tensor([each.attention_mask for each in encoded])
        hidden = self._bert(input_ids=ids, attention_mask=known).last_hidden_state
        mean = (hidden * known[..., None]).sum(1) / known.sum(1, keepdim=True)
        found: NDArray[np.float32] = F.normalize(mean, dim=-1).numpy()
        return found

    @cached_property
    def _bert(self) -> Any:
        return BertModel.from_pretrained(self._weights, add_pooling_layer=False).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = Tokenizer.from_file(str(self._weights / "tokenizer.json"))
        tokenizer.enable_truncation(_LONGEST)
        tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
        return tokenizer
