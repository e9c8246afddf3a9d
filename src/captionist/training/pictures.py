"""Pictures and frozen features, computed once and kept on disk as memory-mapped arrays."""

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from captionist import images
from captionist.data import Example, difference_hash
from captionist.errors import ImageError, TrainingError
from captionist.inference.threads import available_cores
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


class ReadPictures(NamedTuple):
    """What became of N pictures: a row for each of the M that can be read, in their order, [M, ...]; and what is wrong
    with the others, by their numbers."""

    rows: NDArray[Any]
    unreadable: dict[int, str]


def read_pixels(examples: Sequence[Example], resolution: int, cache: Path) -> ReadPictures:
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


def read_hashes(examples: Sequence[Example], cache: Path) -> ReadPictures:
    """What the pictures look like, to find the same ones again: rows uint64 [M], each its `difference_hash`.

    Raises TrainingError where there is no room for them.
    """
    return _read_all("hashes", examples, 64, cache, np.uint64, (), difference_hash)


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
        for found in self._decoded(batches):
            yield np.stack([_or_raise(picture) for picture in found])

    def unreadable(self) -> dict[int, str]:
        """What is wrong with those that cannot be read, by their numbers; each is decoded to find out."""
        every = [np.arange(start, min(start + 32, len(self))) for start in range(0, len(self), 32)]
        pictures = chain.from_iterable(self._decoded(every))
        return {number: str(error) for number, error in enumerate(pictures) if isinstance(error, ImageError)}

    def _decoded(self, batches: Sequence[NDArray[np.int64]]) -> Iterable[list[NDArray[np.uint8] | ImageError]]:
        context = multiprocessing.get_context("forkserver")  # OpenCV's threads do not live in a fork of this process
        context.set_forkserver_preload([__name__])  # which each worker would import by itself
        loader: DataLoader[list[NDArray[np.uint8] | ImageError]] = DataLoader(
            self,  # type: ignore[arg-type]  # it has a Dataset's methods
            batch_sampler=[batch.tolist() for batch in batches],
            collate_fn=list,
            num_workers=min(self.workers, available_cores()),  # torch warns of more
            multiprocessing_context=context if self.workers else None,
            generator=torch.Generator(),  # or it would draw from the one that dropout draws from
        )
        return loader


def _or_raise(picture: NDArray[np.uint8] | ImageError) -> NDArray[np.uint8]:
    if isinstance(picture, ImageError):
        raise picture
    return picture


def find_unreadable(examples: Sequence[Example], resolution: int, cache: Path, workers: int) -> dict[int, str]:
    """What is wrong with those pictures that cannot be read, by their numbers: of `read_pixels` that part alone.

    `workers` processes decode all of them once; what they found is kept in `cache`. Raises TrainingError where it
    cannot be.
    """
    record = cache / f"checked-{pictures_key(examples, resolution)}.unreadable.json"
    with _locked(cache):
        if not record.exists():
            _logger.info("trying %d pictures", len(examples))
            _write_record(record, DecodedByWorkers(examples, resolution, workers).unreadable())
        return _read_record(record)


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


def _read_all(
    kind: str,
    examples: Sequence[Example],
    resolution: int,
    cache: Path,
    dtype: type[np.generic],
    shape: tuple[int, ...],
    read: Callable[[images.ImageFile], Any],
) -> ReadPictures:
    """What `read` makes of the pictures, kept in a file that those which can be read name; beside it, by the name of
    them all, what is wrong with the rest. So each is read once, though some are then left out."""

    if not examples:
        return ReadPictures(np.empty((0, *shape), dtype), {})

    def file(chosen: Sequence[Example]) -> Path:
        return cache / f"{kind}-{pictures_key(chosen, resolution)}.npy"

    record = file(examples).with_suffix(".unreadable.json")
    with _locked(cache):
        unreadable = _read_record(record) if record.exists() else {}
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
                _write_record(record, unreadable)
    return ReadPictures(np.load(path, mmap_mode="r")[: len(good)], unreadable)  # rows behind them were never filled


def _read_record(path: Path) -> dict[int, str]:
    return {int(number): said for number, said in json.loads(path.read_text(encoding="utf-8")).items()}


def _write_record(path: Path, unreadable: dict[int, str]) -> None:
    """As `_write_array`: it takes its name when it is whole. Raises TrainingError."""
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(unreadable), encoding="utf-8")
        partial.rename(path)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror}): see data.cache.") from error
    finally:
        partial.unlink(missing_ok=True)


def open_array(
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
