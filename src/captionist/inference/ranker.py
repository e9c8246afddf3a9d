"""Chooses among a picture's candidates: a linear function of their features plus a small network on them.

ranker.npz: names, the F features in their order; mean, deviation float32 [F], which standardise them; linear float32
    [F]; hidden float32 [F, H], bias, out float32 [H]: score = linear x + out tanh(hidden x + bias)
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionist.bundle import RANKER
from captionist.errors import BundleError
from captionist.inference.arrays import read_arrays
from captionist.inference.candidates import FEATURES

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Ranker:
    """names: F features of candidates; the other parts as above."""

    names: tuple[str, ...]
    mean: Floats
    deviation: Floats
    linear: Floats
    hidden: Floats
    bias: Floats
    out: Floats

    def __call__(self, features: Mapping[str, Floats]) -> Floats:
        """The scores of N candidates of a picture, float32 [N]: the higher, the better; their differences are logits.

        features: see `Candidates.features`; float32 [N] each.
        """
        x = (np.stack([features[name] for name in self.names], axis=1) - self.mean) / self.deviation
        scores: Floats = (x @ self.linear + np.tanh(x @ self.hidden + self.bias) @ self.out).astype(np.float32)
        return scores

    def save(self, directory: Path) -> None:
        """Write it into a bundle."""
        np.savez(directory / RANKER, **{part.name: getattr(self, part.name) for part in fields(self)})


def read_ranker(directory: Path) -> Ranker:
    """A bundle's ranker. Raises BundleError if it is damaged or needs features that are not known here."""
    path = directory / RANKER
    arrays = read_arrays(path, [part.name for part in fields(Ranker)])
    names = tuple(map(str, arrays.pop("names").ravel()))
    features, hidden = len(names), arrays["bias"].size
    shapes = {"mean": (features,), "deviation": (features,), "linear": (features,), "hidden": (features, hidden)}
    shapes |= {"bias": (hidden,), "out": (hidden,)}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            raise BundleError(
                f"{path}: {name} should be {list(shape)} finite numbers of float32, but it is {array.dtype} "
                f"{list(array.shape)}: export the model again"
            )
    if unknown := sorted(set(names).difference(FEATURES)):
        raise BundleError(
            f"{path} chooses by {', '.join(unknown)}, which this captionist does not know: "
            "upgrade captionist, or export the model again"
        )
    return Ranker(names, **arrays)
