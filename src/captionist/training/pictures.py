"""Pictures and frozen features, computed once and kept on disk as memory-mapped arrays."""

import hashlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from captionist import images
from captionist.data import Example, difference_hash
from captionist.errors import ImageError, TrainingError
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

    Raises ImageError for a picture that cannot be read, TrainingError where there is no room for them.
    """

    def decode(pixels: NDArray[Any]) -> None:
        for row, example in zip(pixels, examples, strict=True):
            row[:] = images.squeeze(images.decode(example.image), (resolution, resolution))

    path = cache / f"pixels-{pictures_key(examples, resolution)}.npy"
    return open_array(path, np.uint8, (len(examples), resolution, resolution, 3), decode)


def open_hashes(examples: Sequence[Example], cache: Path) -> NDArray[np.uint64]:
    """What the pictures look like, to find the same ones again: uint64 [N], each its `difference_hash`; memory-mapped.

    Raises ImageError for a picture that cannot be read, TrainingError where there is no room for them.
    """

    def hash_all(hashes: NDArray[Any]) -> None:
        hashes[:] = [difference_hash(example.image) for example in examples]

    return open_array(cache / f"hashes-{pictures_key(examples, 64)}.npy", np.uint64, (len(examples),), hash_all)


class Pictures(Protocol):
    """Pictures to read, many times and in any order."""

    def __len__(self) -> int: ...

    def batches(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        """The pictures of these numbers, int64 [B] each: uint8 [B, R, R, 3], RGB, one after the other."""


@dataclass(frozen=True)
class DecodedAhead:
    """Pictures in an array, such as `open_pixels` gives."""

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        for batch in batches:
            yield self.pixels[batch]


@dataclass(frozen=True)
class DecodedByWorkers:
    """Pictures that processes decode while the last ones are learnt from: of any number of them none is kept."""

    examples: Sequence[Example]
    resolution: int
    workers: int
    """0: this process decodes them, when it needs them."""

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | ImageError:
        try:
            return images.squeeze(images.decode(self.examples[index].image), (self.resolution, self.resolution))
        except ImageError as error:
            return error  # to be raised where a traceback of another process tells nothing

    def batches(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        """Raises ImageError for a picture that cannot be read."""
        context = multiprocessing.get_context("forkserver")  # OpenCV's threads do not live in a fork of this process
        context.set_forkserver_preload([__name__])  # which each worker would import by itself
        loader: DataLoader[NDArray[np.uint8] | ImageError] = DataLoader(
            self,  # type: ignore[arg-type]  # it has a Dataset's methods
            batch_sampler=[batch.tolist() for batch in batches],
            collate_fn=list,
            num_workers=self.workers,
            multiprocessing_context=context if self.workers else None,
            generator=torch.Generator(),  # or it would draw from the one that dropout draws from
        )
        for found in loader:
            for picture in found:
                if isinstance(picture, ImageError):
                    raise picture
            yield np.stack(found)


def open_features(
    encoder: Encoder,
    pictures: Pictures,
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
        starts = range(0, len(pictures), 32)
        rows = [np.arange(start, min(start + 32, len(pictures))) for start in starts]
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, bf16):
            for start, pixels in zip(starts, pictures.batches(rows), strict=True):
                batch = torch.from_numpy(pixels).to(device)
                if change:
                    batch = change(batch, start)
                found = encoder.backbone(normalise(batch, encoder))
                features[start : start + 32] = found.to(torch.float16).cpu().numpy()

    digest = hashlib.sha256(f"{key} {bf16}".encode())
    for module in encoder.backbone_modules():
        for tensor in module.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
    path = cache / f"features-{digest.hexdigest()[:16]}.npy"
    return open_array(path, np.float16, (len(pictures), encoder.grid**2, encoder.feature_width), run_backbone)


def normalise(pixels: Tensor, encoder: Encoder) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] with the encoder's own mean and deviation."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (encoder.mean, encoder.std))
    return (scaled - mean) / std


def open_array(
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
                # All of the room is taken before, since a disk that is full kills who writes to mapped memory.
                with partial.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
                fill(array)
                array.flush()
                partial.rename(path)
            except OSError as error:
                raise TrainingError(f"{path} cannot be written ({error.strerror}): see data.cache.") from error
            finally:
                partial.unlink(missing_ok=True)
    stored: NDArray[Any] = np.load(path, mmap_mode="r")
    return stored
