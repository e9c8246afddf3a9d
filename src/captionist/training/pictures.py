"""The pictures of a split, decoded to squares, and what else is known about each."""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from captionist import images
from captionist.data import Example
from captionist.errors import ImageError
from captionist.inference.threads import available_cores
from captionist.model.vision import Encoder
from captionist.training.annotations import Annotation
from captionist.training.augment import may_flip
from captionist.training.cache import open_array, open_record, pictures_key
from captionist.training.recipe import DataConfig

TOGETHER = 32  # pictures decoded, or shown to a frozen backbone, at a time
_MOST_AHEAD = 8e9  # bytes: the most that `data.decode: auto` decodes ahead for one source

Pixels = NDArray[np.uint8]


class PictureSet:
    """Pictures, and what is known about each; everything is made when first asked for, and kept on disk."""

    def __init__(
        self, examples: Sequence[Example], resolution: int, config: DataConfig, annotations: Sequence[Annotation] = ()
    ) -> None:
        self.examples, self.resolution = examples, resolution
        self._config, self._annotations = config, annotations

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def key(self) -> str:
        """Names these pictures, for caches."""
        return pictures_key(self.examples, self.resolution)

    def batches(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[Pixels]:
        """The pictures with these numbers, int64 [B] each: uint8 [B, R, R, 3], RGB, one batch after the other.

        Raises ImageError for a picture that cannot be read, TrainingError if there is no room for pictures decoded
        ahead.
        """
        if self._ahead:
            yield from (self._pixels[batch] for batch in batches)
        else:
            yield from map(_stacked, self._decoded(batches))

    def unreadable(self) -> dict[int, str]:
        """What is wrong with pictures that cannot be read, by their numbers; all are decoded to find out.

        That is done once, and the result kept. Raises TrainingError if it cannot be kept.
        """
        record = self._config.cache / f"unreadable-{self.key}.json"
        if self._ahead and not record.exists():
            with suppress(ImageError):
                _ = self._pixels  # if all can be decoded, this decodes them only once
                return {}
        return {int(number): said for number, said in open_record(record, self._find_unreadable).items()}

    def _find_unreadable(self) -> dict[int, str]:
        decoded = chain.from_iterable(self._decoded(self.ranges()))
        return {number: str(error) for number, error in enumerate(decoded) if isinstance(error, ImageError)}

    def ranges(self) -> list[NDArray[np.int64]]:
        """The numbers of all pictures in order, in ranges."""
        return [np.arange(start, min(start + TOGETHER, len(self))) for start in range(0, len(self), TOGETHER)]

    @property
    def _ahead(self) -> bool:
        if self._config.decode == "auto":
            return len(self) * self.resolution**2 * 3 < _MOST_AHEAD
        return self._config.decode == "ahead"

    @cached_property
    def _pixels(self) -> Pixels:
        """uint8 [N, R, R, 3], memory-mapped."""

        def fill(rows: Pixels) -> None:
            ranges = self.ranges()
            for numbers, found in zip(ranges, self._decoded(ranges), strict=True):
                rows[numbers] = _stacked(found)

        path = self._config.cache / f"pixels-{self.key}.npy"
        return open_array(path, np.uint8, (len(self), self.resolution, self.resolution, 3), fill)

    def _decoded(self, batches: Sequence[NDArray[np.int64]]) -> Iterable[list[Pixels | ImageError]]:
        """Decoded by worker processes while training goes on, or, ahead of all training, by this process."""
        workers = 0 if self._ahead else min(self._config.workers, available_cores())  # torch warns about more
        context = multiprocessing.get_context("forkserver")  # OpenCV's threads do not survive a fork of this process
        context.set_forkserver_preload([__name__])  # otherwise each worker imports it
        loader: DataLoader[list[Pixels | ImageError]] = DataLoader(
            [example.image for example in self.examples],  # type: ignore[arg-type]  # a list has a Dataset's methods
            batch_sampler=[batch.tolist() for batch in batches],
            collate_fn=partial(_decode, self.resolution),
            num_workers=workers,
            multiprocessing_context=context if workers else None,
            generator=torch.Generator(),  # otherwise it would draw from dropout's
        )
        return loader

    @cached_property
    def annotated(self) -> dict[str, NDArray[np.float32]]:
        """By name, float32 [N, ...], memory-mapped. Raises what `Annotation.compute` raises."""
        found, key = {}, pictures_key(self.examples, 0)
        for annotation in self._annotations:

            def fill(array: NDArray[np.float32], annotation: Annotation = annotation) -> None:
                for row, example in zip(array, self.examples, strict=True):
                    row[...] = annotation.compute(example)

            path = self._config.cache / f"{annotation.name}-{annotation.version}-{key}.npy"
            found[annotation.name] = open_array(path, np.float32, (len(self), *annotation.shape), fill)
        return found

    @cached_property
    def flippable(self) -> Tensor:
        """bool [N]: those that may be mirrored."""
        return torch.tensor([may_flip(example.references) for example in self.examples])

    def open(self) -> None:
        """Fill the caches, unless that was done."""
        _ = self.annotated
        if self._ahead:
            _ = self._pixels

    def annotations(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """By name, float32 [B, ...] of these pictures."""
        return {name: torch.from_numpy(array[rows]) for name, array in self.annotated.items()}


def _decode(resolution: int, pictures: Sequence[images.ImageFile]) -> list[Pixels | ImageError]:
    """A worker's task; errors are returned, since a traceback from another process would not help."""
    found: list[Pixels | ImageError] = []
    for picture in pictures:
        try:
            found.append(images.squeeze(images.decode(picture), (resolution, resolution)))
        except ImageError as error:
            found.append(error)
    return found


def _stacked(found: Sequence[Pixels | ImageError]) -> Pixels:
    for picture in found:
        if isinstance(picture, ImageError):
            raise picture
    return np.stack(found)  # type: ignore[arg-type]  # no error is left


def normalise(pixels: Tensor, encoder: Encoder) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] with the encoder's own mean and deviation."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (encoder.mean, encoder.std))
    return (scaled - mean) / std
