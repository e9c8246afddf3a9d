"""Pictures and frozen features, computed once and kept on disk as memory-mapped arrays."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from captionist import images
from captionist.data import Example, difference_hash
from captionist.errors import ImageError, TrainingError
from captionist.model.vision import Encoder
from captionist.system import take_room

_logger = logging.getLogger(__name__)

Change = Callable[[Tensor, int], Tensor]
"""Makes pictures uint8 [B, R, R, 3], the first of which has the number given, other ones of the same shape."""


def pictures_key(examples: Sequence[Example], resolution: int) -> str:
    """Names these pictures at this resolution; a changed file gives another name."""
    digest = hashlib.sha256(str(resolution).encode())
    for example in examples:
        try:
            status = example.image.stat()
            size, modified = status.st_size, status.st_mtime_ns
        except OSError:  # it will be among the unreadable
            size = modified = -1
        digest.update(f"{example.image.resolve()} {size} {modified}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


class Pictures(NamedTuple):
    """What became of N pictures: a row for each of the M that can be read, in their order, [M, ...]; and what is wrong
    with the others, by their numbers."""

    rows: NDArray[Any]
    unreadable: dict[int, str]


def read_pixels(examples: Sequence[Example], resolution: int, cache: Path) -> Pictures:
    """The pictures, squeezed to a square: rows uint8 [M, resolution, resolution, 3], RGB, memory-mapped.

    Raises TrainingError where there is no room for them.
    """

    def read(picture: images.ImageFile) -> NDArray[np.uint8]:
        return images.squeeze(images.decode(picture), (resolution, resolution))

    return _read_all("pixels", examples, resolution, cache, np.uint8, (resolution, resolution, 3), read)


def open_pixels(examples: Sequence[Example], resolution: int, cache: Path) -> NDArray[np.uint8]:
    """The rows of `read_pixels`, where all of these pictures can be read.

    Raises ImageError, naming all that cannot, and TrainingError as above.
    """
    pictures = read_pixels(examples, resolution, cache)
    if pictures.unreadable:
        raise ImageError("; ".join(pictures.unreadable.values()))
    return pictures.rows


def read_hashes(examples: Sequence[Example], cache: Path) -> Pictures:
    """What the pictures look like, to find the same ones again: rows uint64 [M], each its `difference_hash`.

    Raises TrainingError where there is no room for them.
    """
    return _read_all("hashes", examples, 64, cache, np.uint64, (), difference_hash)


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


def _read_all(
    kind: str,
    examples: Sequence[Example],
    resolution: int,
    cache: Path,
    dtype: type[np.generic],
    shape: tuple[int, ...],
    read: Callable[[images.ImageFile], Any],
) -> Pictures:
    """What `read` makes of the pictures, kept in a file that those which can be read name; beside it, by the name of
    them all, what is wrong with the rest. So each is read once, though some are then left out."""

    if not examples:
        return Pictures(np.empty((0, *shape), dtype), {})

    def file(chosen: Sequence[Example]) -> Path:
        return cache / f"{kind}-{pictures_key(chosen, resolution)}.npy"

    record = file(examples).with_suffix(".unreadable.json")
    with _locked(cache):
        unreadable = {int(n): said for n, said in json.loads(record.read_text()).items()} if record.exists() else {}
        good = [example for number, example in enumerate(examples) if number not in unreadable]
        path = file(good)
        if not path.exists():
            numbers = [number for number in range(len(examples)) if number not in unreadable]

            def fill(rows: NDArray[Any]) -> None:
                row = 0
                for number in numbers:
                    try:
                        rows[row] = read(examples[number].image)
                    except ImageError as error:
                        unreadable[number] = str(error)
                    else:
                        row += 1

            _write_array(path, dtype, (len(good), *shape), fill)
            if len(unreadable) > len(examples) - len(good):
                good = [example for number, example in enumerate(examples) if number not in unreadable]
                path = path.rename(file(good))
                record.write_text(json.dumps(unreadable))
    return Pictures(np.load(path, mmap_mode="r")[: len(good)], unreadable)  # rows behind them were never filled


def _open_array(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...], fill: Callable[[NDArray[Any]], None]
) -> NDArray[Any]:
    """The array of that file, memory-mapped; filled first where there is none yet. Raises as `_write_array`."""
    with _locked(path.parent):
        if not path.exists():
            _write_array(path, dtype, shape, fill)
    stored: NDArray[Any] = np.load(path, mmap_mode="r")
    return stored


def _locked(cache: Path) -> FileLock:
    """Of several runs that want the same file, the others wait. Raises TrainingError."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{cache} cannot be made ({error.strerror}): see data.cache.") from error
    return FileLock(cache / ".lock")


def _write_array(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...], fill: Callable[[NDArray[Any]], None]
) -> None:
    """A new file takes its name only when it is whole, so that a killed run leaves no half cache.

    Raises TrainingError where there is no room for it.
    """
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
