"""What a frozen backbone makes of pictures, and of augmented views of them: computed once, kept on the disk."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionist.model.vision import Encoder
from captionist.training.augment import AUGMENT_DRAWS, augment
from captionist.training.batches import uniform_draws
from captionist.training.pictures import open_features
from captionist.training.sources import PictureSet


class FrozenBackbone:
    """Opens features, float16 [N, F, C]; see `pictures.open_features`."""

    def __init__(self, encoder: Encoder, cache: Path, seed: int, device: torch.device, bf16: bool) -> None:
        self._encoder, self._cache, self._seed, self._device, self._bf16 = encoder, cache, seed, device, bf16

    def features(self, pictures: PictureSet, view: int = 0) -> NDArray[np.float16]:
        """Of the pictures as they are (view 0), or of one augmentation of each, drawn for good."""

        def change(pixels: Tensor, start: int) -> Tensor:
            flippable = pictures.flippable[start : start + len(pixels)]
            return augment(pixels, flippable, uniform_draws((self._seed, view, start), len(pixels), AUGMENT_DRAWS))

        key = pictures.key
        if view:
            key += f" {self._seed} {view} {AUGMENT_DRAWS} {pictures.flippable.tolist()}"
        where = (self._cache, self._device, self._bf16)
        return open_features(self._encoder, pictures.pixels, key, *where, change if view else None)
