"""Captionist describes a photograph in one English sentence, offline, on a plain CPU.

>>> from captionist import Captioner
>>> Captioner().caption("dog.jpg").text  # doctest: +SKIP
'A brown dog runs through the grass.'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captionist.errors import (
    BundleError,
    CaptionistError,
    CollectionError,
    CorruptImageError,
    DataError,
    EmptyImageError,
    FailedImageError,
    ImageError,
    ImageIndexError,
    ImageNotFoundError,
    ImageTooLargeError,
    MissingExtraError,
    NotAnImageError,
    RecipeError,
    ScoreError,
    TrainingError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from captionist.captioner import Captioner
    from captionist.captions import Caption, CaptionResult, EmbeddingResult, WordAttention
    from captionist.images import ImageLimits
    from captionist.index import ImageIndex

__all__ = [
    "BundleError",
    "Caption",
    "CaptionResult",
    "Captioner",
    "CaptionistError",
    "CollectionError",
    "CorruptImageError",
    "DataError",
    "EmbeddingResult",
    "EmptyImageError",
    "FailedImageError",
    "ImageError",
    "ImageIndex",
    "ImageIndexError",
    "ImageLimits",
    "ImageNotFoundError",
    "ImageTooLargeError",
    "MissingExtraError",
    "NotAnImageError",
    "RecipeError",
    "ScoreError",
    "TrainingError",
    "UnsupportedImageError",
    "WordAttention",
    "__version__",
]

# Loaded on first use: OpenCV and ONNX Runtime take half a second, which `captionist --help` need not wait for.
_LATER = {
    "Caption": "captions",
    "CaptionResult": "captions",
    "Captioner": "captioner",
    "EmbeddingResult": "captions",
    "ImageIndex": "index",
    "ImageLimits": "images",
    "WordAttention": "captions",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"captionist.{_LATER[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("captionist")
    raise AttributeError(f"module 'captionist' has no attribute {name!r}")
