"""Other information about a picture than its pixels: an array each, computed once and given to the model by name.

An annotation may be expensive to compute, as a detector's objects are. A text without a picture gets one that a picture
for it might have had. A recipe lists annotations in `data.annotations`; the model gets them as arguments of that name
to `encode`, `project` and `unseen`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from captionist.data import Example
from captionist.errors import RecipeError
from captionist.training import seen
from captionist.training.recipe import Recipe


class Annotation(Protocol):
    """One array per picture. Its name is that of the model's argument."""

    name: str
    shape: tuple[int, ...]
    version: str
    """Names the cache: it must differ for whatever computes other arrays, such as a hash of a detector's weights."""

    def compute(self, example: Example) -> NDArray[np.float32]:
        """The array of a picture, as stored on disk: float32 `shape`."""

    def learn(self, examples: Sequence[Example], arrays: NDArray[np.float32]) -> None:
        """Get the arrays of the train pictures, float32 [N, *shape], from which `simulate` may draw."""

    def simulate(self, sentence: str, rng: np.random.Generator) -> NDArray[np.float32]:
        """An array that a picture with this caption might have had: float32 `shape`."""


ANNOTATIONS: dict[str, Callable[[Recipe], Annotation]] = {"objects": seen.objects, "classes": seen.classes}
"""How to make each for a recipe, by name."""


def build_annotations(recipe: Recipe) -> tuple[Annotation, ...]:
    """The annotations that the recipe names. Raises RecipeError for an unknown one."""
    for name in recipe.data.annotations:
        if name not in ANNOTATIONS:
            known = ", ".join(ANNOTATIONS) or "none"
            raise RecipeError(f"data.annotations: there is no {name}; there are: {known}.")
    return tuple(ANNOTATIONS[name](recipe) for name in recipe.data.annotations)
