"""What goes between the three steps to a caption: prepare, encode, generate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Prepared(NamedTuple):
    """A picture as a model reads it.

    pixels: float32 [3, H, W], for the encoder. scene: uint8 [h, w, 3] RGB, for the detector; None if the model has
    none.
    """

    pixels: NDArray[np.float32]
    scene: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """What a model sees in B pictures.

    visual_tokens: float32 [B, P, W], which a decoder's `prefill` takes. objects: float32 [B, K, 6], what the detector
    found of each of its classes (see `inference.detector.Detector`); None if the model has none.
    """

    visual_tokens: NDArray[np.float32]
    objects: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.visual_tokens)

    def __getitem__(self, pictures: slice | NDArray[np.int64]) -> Self:
        """Some of the pictures."""
        objects = None if self.objects is None else self.objects[pictures]
        return type(self)(self.visual_tokens[pictures], objects)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The pictures of one or more encodings of the same model, in their order."""
        objects = [part.objects for part in parts if part.objects is not None]
        return cls(np.concatenate([part.visual_tokens for part in parts]), np.concatenate(objects) if objects else None)
