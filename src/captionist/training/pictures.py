"""Pictures and frozen features, computed once and kept on disk as memory-mapped arrays."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from captionist import images
from captionist.data import Example, difference_hash
from captionist.errors import TrainingError
from captionist.model.vision import Encoder
from captionist.system import take_room

_logger = logging.getLogger(__name__)

Change = Callable[[Tensor, int], Tensor]
"""Makes pictures uint8 [B, R, R, 3], the first of which has the number given, other ones of the same shape."""


def pictures_key(examples: Sequence[Example], resolution: int) -> str:
    """Names these pictures at this resolution; a changed file gives another name."""
    digest = hashlib.sha256(str(resolution).encode())
    for example in examples:
        stat = example.image.stat()
        digest.update(f"{example.image.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def open_pixels(examples: Sequence[Example], resolution: int, cache: Path) -> NDArray[np.uint8]:
    """The pictures, squeezed to a square: uint8 [N, resolution, resolution, 3], RGB, memory-mapped.

    Raises ImageError for a picture that cannot be read, TrainingError where there is no room for them.
    """

    def decode(pixels: NDArray[Any]) -> None:
        for row, example in zip(pixels, examples, strict=True):
            row[:] = images.squeeze(images.decode(example.image), (resolution, resolution))

    path = cache / f"pixels-{pictures_key(examples, resolution)}.npy"
    return _open_array(path, np.uint8, (len(examples), resolution, resolution, 3), decode)


def open_hashes(examples: Sequence[Example], cache: Path) -> NDArray[np.uint64]:
    """What the pictures look like, to find the same ones again: uint64 [N], each its `difference_hash`; memory-mapped.

    Raises ImageError for a picture that cannot be read, TrainingError where there is no room for them.
    """

    def hash_all(hashes: NDArray[Any]) -> None:
        hashes[:] = [difference_hash(example.image) for example in examples]

    return _open_array(cache / f"hashes-{pictures_key(examples, 64)}.npy", np.uint64, (len(examples),), hash_all)


def open_features(
    encoder: Encoder,
    pixels: NDArray[np.uint8],
    key: str,
    cache: Path,
    device: torch.device,
    bf16: bool,
    change: Change | None = None,
) -> NDArray[np.float16]:
    """What the frozen backbone makes of the pictures: float16 [N, F, C], memory-mapped; see `Encoder.backbone`.

    `change` is done to the pictures before. `key` names the pictures as they then are; the backbone's own weights are
    part of the file's name too. Raises TrainingError where there is no room for them.
    """

    def run_backbone(features: NDArray[Any]) -> None:
        encoder.eval()
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, bf16):
            for start in range(0, len(pixels), 32):
                batch = torch.from_numpy(np.array(pixels[start : start + 32])).to(device)
                if change:
                    batch = change(batch, start)
                found = encoder.backbone(normalise(batch, encoder))
                features[start : start + 32] = found.to(torch.float16).cpu().numpy()

    digest = hashlib.sha256(f"{key} {bf16}".encode())
    for module in encoder.backbone_modules():
        for tensor in module.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
    path = cache / f"features-{digest.hexdigest()[:16]}.npy"
    return _open_array(path, np.float16, (len(pixels), encoder.grid**2, encoder.feature_width), run_backbone)


def normalise(pixels: Tensor, encoder: Encoder) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] with the encoder's own mean and deviation."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (encoder.mean, encoder.std))
    return (scaled - mean) / std


def _open_array(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...], fill: Callable[[NDArray[Any]], None]
) -> NDArray[Any]:
    """The array of that file, memory-mapped; filled first where there is none yet.

    The file takes its name only when it is whole, so that a killed run leaves no half cache; of several runs that want
    the same one, the others wait. Raises TrainingError where there is no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):
        if not path.exists():
            _logger.info("filling %s for %d pictures", path, shape[0])
            partial = path.with_suffix(".partial")
            try:
                array = np.lib.format.open_memmap(partial, "w+", dtype, shape)
                take_room(partial)
                fill(array)
                array.flush()
                partial.rename(path)
            except OSError as error:
                raise TrainingError(f"{path} cannot be written ({error.strerror}): see data.cache.") from error
            finally:
                partial.unlink(missing_ok=True)
    stored: NDArray[Any] = np.load(path, mmap_mode="r")
    return stored
