"""Recall: can a model find a picture's sentences among those of all pictures, and a sentence's picture?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WAYS = {"image_to_text": "image to text", "text_to_image": "text to image"}


@dataclass(frozen=True)
class Recall:
    """The result of `recall` among so many pictures and sentences: the more there are, the harder it is."""

    pictures: int
    sentences: int
    percent: Mapping[str, float]

    def line(self) -> str:
        """The figures in words."""
        ways = []
        for name, way in _WAYS.items():
            values = [f"{value:.1f} @{key.split('_')[-1]}" for key, value in self.percent.items() if name in key]
            ways.append(f"{way} {', '.join(values)}")
        return (
            f"recall of the model's own alignment among {self.pictures:,} pictures and {self.sentences:,} references, "
            f"in percent: {'; '.join(ways)}"
        )


def recall(
    images: NDArray[np.float32],
    sentences: NDArray[np.float32],
    owners: NDArray[np.int64],
    ranks: tuple[int, ...] = (1, 5, 10),
) -> dict[str, float]:
    """How often the right one is among the best (Hodosh et al. 2013), in percent, retrieving both ways.

    Args: unit vectors images float32 [N, E] and sentences float32 [S, E]; owners int64 [S]: each sentence's picture.
    Returns image_to_text_1, image_to_text_5 and so on (any of the picture's sentences counts), and text_to_image_1 ...
    In a tie the wrong ones come first, so that a model that sees no difference between pictures finds nothing.
    """
    similarity = images @ sentences.T
    owned = owners == np.arange(len(images))[:, None]
    best = np.where(owned, similarity, -np.inf).max(1, keepdims=True)
    own = similarity[owners, np.arange(len(sentences))]
    before_text = ((similarity >= best) & ~owned).sum(1)
    before_image = (similarity >= own).sum(0) - 1
    return {
        f"{way}_{rank}": 100 * float((before < rank).mean())
        for way, before in zip(_WAYS, (before_text, before_image), strict=True)
        for rank in ranks
    }
