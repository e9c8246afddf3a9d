"""A frozen backbone's features of pictures and of augmented views of them: computed once, kept on disk."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionist.model.vision import Encoder
from captionist.training.augment import AUGMENT_DRAWS, augment
from captionist.training.batches import uniform_draws
from captionist.training.cache import open_array
from captionist.training.pictures import PictureSet, normalise


@dataclass(frozen=True)
class FrozenBackbone:
    """Opens features of pictures. `seed` decides how their views are augmented."""

    encoder: Encoder
    cache: Path
    seed: int
    device: torch.device
    bf16: bool

    def features(self, pictures: PictureSet, view: int = 0) -> NDArray[np.float16]:
        """The features of the pictures as they are (view 0), or of one fixed augmentation of each.

        float16 [N, F, C], memory-mapped; see `Encoder.backbone`, whose weights are part of the file's name. Raises as
        `PictureSet.batches`.
        """

        def fill(features: NDArray[Any]) -> None:
            self.encoder.eval()
            rows = pictures.ranges()
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, self.bf16):
                for numbers, pixels in zip(rows, pictures.batches(rows), strict=True):
                    batch = self._seen(pictures, view, numbers, torch.from_numpy(pixels).to(self.device))
                    found = self.encoder.backbone(normalise(batch, self.encoder))
                    features[numbers] = found.to(torch.float16).cpu().numpy()

        pictures.open()  # its own caches are locked, too
        key = pictures.key
        if view:
            key += f" {self.seed} {view} {AUGMENT_DRAWS} {pictures.flippable.tolist()}"
        digest = hashlib.sha256(f"{key} {self.bf16}".encode())
        for module in self.encoder.backbone_modules():
            for tensor in module.state_dict().values():
                digest.update(tensor.cpu().numpy().tobytes())
        path = self.cache / f"features-{digest.hexdigest()[:16]}.npy"
        shape = (len(pictures), self.encoder.grid**2, self.encoder.feature_width)
        return open_array(path, np.float16, shape, fill)

    def _seen(self, pictures: PictureSet, view: int, numbers: NDArray[np.int64], pixels: Tensor) -> Tensor:
        if not view:
            return pixels
        draws = uniform_draws((self.seed, view, int(numbers[0])), len(numbers), AUGMENT_DRAWS)
        return augment(pixels, pictures.flippable[numbers], draws)
