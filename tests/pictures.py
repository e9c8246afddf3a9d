"""Pictures made on the spot."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def patchwork(seed: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A picture of 4 x 4 patches of random colour, uint8 RGB [height, width, 3]; other seeds give other pictures."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def write_png(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", patchwork(seed)[:, :, ::-1])[1].tobytes())
    return path
