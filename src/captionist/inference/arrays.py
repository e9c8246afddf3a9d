"""Arrays in a bundle's file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionist.errors import BundleError


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names in a .npz file. Raises BundleError if it is damaged or lacks one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            return {name: parts[name] for name in names}
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise BundleError(f"{path} cannot be read ({error}): export the model again") from error
