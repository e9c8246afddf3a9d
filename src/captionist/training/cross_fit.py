"""Stems that have each been trained without a part of the pictures, so that every picture can be seen honestly.

What a trained stem makes of its own train pictures is too good: it has learnt their captions. A decoder or a head that
learns from those features relies on them more than it should on pictures that are new. Here a train picture is seen
through a stem that has not been trained on it (cross-fitting, as in stacked generalisation; Wolpert 1992), and the
model itself takes the mean of the stems' weights.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from captionist.data import Example
from captionist.errors import RecipeError
from captionist.model.vision import Encoder, HybridEncoder

_UNSEEN = "unseen"  # the file's note of which pictures it was not trained on


@dataclass(frozen=True)
class Stem:
    """A hybrid encoder's stem: its weights, and the ids of the pictures that it has not been trained on."""

    weights: dict[str, Tensor]
    unseen: frozenset[str]


def save_stem(path: Path, weights: dict[str, Tensor], unseen: Sequence[str]) -> None:
    """Write what `load_stems` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(contiguous, path, metadata={_UNSEEN: json.dumps(list(unseen))})


def load_stems(paths: Sequence[Path]) -> list[Stem]:
    """Raises RecipeError for a file that is missing, damaged or does not say what it has not seen."""
    stems = []
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                unseen = json.loads((file.metadata() or {})[_UNSEEN])
                stems.append(Stem({name: file.get_tensor(name) for name in file.keys()}, frozenset(unseen)))  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RecipeError(
                f"cross_fit: {path} is no stem of recipes/flickr8k_stem.py ({type(error).__name__}: {error})."
            ) from error
    return stems


def take_mean(encoder: Encoder, stems: Sequence[Stem]) -> None:
    """Give the encoder the mean of the stems' weights (a model soup; Wortsman et al. 2022)."""
    put_stem(encoder, {name: torch.stack([stem.weights[name] for stem in stems]).mean(0) for name in stems[0].weights})


def put_stem(encoder: Encoder, weights: dict[str, Tensor]) -> None:
    """Raises RecipeError where they are not those of its stem."""
    assert isinstance(encoder, HybridEncoder)  # the recipe has been checked
    try:
        encoder.stem.load_state_dict(weights)
    except RuntimeError as error:
        raise RecipeError(f"cross_fit: these are no weights of EfficientNet-Lite2: {error}") from error


def honest_stems(stems: Sequence[Stem], train: Sequence[Example]) -> NDArray[np.int64]:
    """Which stem has not been trained on each picture, int64 [N].

    Raises RecipeError where all have been trained on one.
    """
    chosen = np.empty(len(train), np.int64)
    for place, example in enumerate(train):
        found = next((number for number, stem in enumerate(stems) if example.id in stem.unseen), None)
        if found is None:
            raise RecipeError(f"cross_fit: every stem has been trained on {example.id}, so none sees it honestly.")
        chosen[place] = found
    return chosen


class PiecedFeatures:
    """Features of N pictures in arrays of several stems; a row is read as from one array."""

    def __init__(self, stem_of: NDArray[np.int64], pieces: Sequence[NDArray[np.float16]]) -> None:
        """stem_of: int64 [N]; pieces: of each stem, float16 [its pictures, F, C], in the pictures' order."""
        self._stem_of, self._pieces = stem_of, pieces
        self._rows = np.empty(len(stem_of), np.int64)
        for number in range(len(pieces)):
            own = np.flatnonzero(stem_of == number)
            self._rows[own] = np.arange(len(own))

    def __getitem__(self, picture: int) -> NDArray[np.float16]:
        row: NDArray[np.float16] = self._pieces[self._stem_of[picture]][self._rows[picture]]
        return row
