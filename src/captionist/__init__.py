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
    ImageFetchError,
    ImageIndexError,
    ImageNotFoundError,
    ImageTooLargeError,
    MissingExtraError,
    NotAnImageError,
    RecipeError,
    ScoreError,
    SettingsError,
    TrainingError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from captionist.bundle import Bundle
    from captionist.captioner import Captioner
    from captionist.captions import Caption, CaptionResult, EmbeddingResult, WordAttention
    from captionist.images import ImageLimits
    from captionist.index import ImageIndex, IndexedPicture
    from captionist.options import Sampling, SearchOptions

__all__ = [
    "Bundle",
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
    "ImageFetchError",
    "ImageIndex",
    "ImageIndexError",
    "ImageLimits",
    "ImageNotFoundError",
    "ImageTooLargeError",
    "IndexedPicture",
    "MissingExtraError",
    "NotAnImageError",
    "RecipeError",
    "Sampling",
    "ScoreError",
    "SearchOptions",
    "SettingsError",
    "TrainingError",
    "UnsupportedImageError",
    "WordAttention",
    "__version__",
]

# Loaded on first use: OpenCV and ONNX Runtime take half a second, which `captionist --help` need not wait for.
_LAZY = {
    "bundle": ("Bundle",),
    "captioner": ("Captioner",),
    "captions": ("Caption", "CaptionResult", "EmbeddingResult", "WordAttention"),
    "images": ("ImageLimits",),
    "index": ("ImageIndex", "IndexedPicture"),
    "options": ("Sampling", "SearchOptions"),
}


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            return getattr(import_module(f"captionist.{module}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("captionist")
    raise AttributeError(f"module 'captionist' has no attribute {name!r}")
