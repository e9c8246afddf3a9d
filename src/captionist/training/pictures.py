"""Pictures and frozen features, computed once and kept on disk as memory-mapped arrays."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionist import images
from captionist.data import Example
from captionist.model.vision import Encoder

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

    Raises ImageError for a picture that cannot be read.
    """
    path = cache / f"pixels-{pictures_key(examples, resolution)}.npy"
    shape = (len(examples), resolution, resolution, 3)
    if not path.exists():
        _logger.info("decoding %d pictures to %s", len(examples), path)
        with _Partial(path) as partial:
            pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            for row, example in zip(pixels, examples, strict=True):
                row[:] = images.squeeze(images.decode(example.image), (resolution, resolution))
            pixels.flush()
    stored: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return stored


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
    part of the file's name too.
    """
    digest = hashlib.sha256(f"{key} {bf16}".encode())
    for module in encoder.backbone_modules():
        for tensor in module.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
    path = cache / f"features-{digest.hexdigest()[:16]}.npy"
    if not path.exists():
        _logger.info("computing the features of %d pictures to %s", len(pixels), path)
        shape = (len(pixels), encoder.grid**2, encoder.feature_width)
        encoder.eval()
        with _Partial(path) as partial, torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, bf16):
            features = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
            for start in range(0, len(pixels), 32):
                batch = torch.from_numpy(np.array(pixels[start : start + 32])).to(device)
                if change:
                    batch = change(batch, start)
                features[start : start + 32] = (
                    encoder.backbone(normalise(batch, encoder)).to(torch.float16).cpu().numpy()
                )
            features.flush()
    stored: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return stored


def normalise(pixels: Tensor, encoder: Encoder) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] with the encoder's own mean and deviation."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (encoder.mean, encoder.std))
    return (scaled - mean) / std


class _Partial:
    """A file that takes its name only when it is whole, so that a killed run leaves no half cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_suffix(".partial")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.partial.rename(self.path)
        else:
            self.partial.unlink(missing_ok=True)
