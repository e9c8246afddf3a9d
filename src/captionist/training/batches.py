"""Which examples each step sees. Everything follows from the seed, so that a resumed run sees the same examples."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionist.errors import TrainingError
from captionist.model.language import IGNORE
from captionist.training.stage import Stage


class CaptionTable:
    """Token ids of captions, a row for each picture or, unpacked, for each caption."""

    def __init__(
        self,
        captions: Sequence[Sequence[list[int]]],
        pictures: Sequence[int] | None = None,
        weights: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """pictures: the picture of each row, by default the row's own number; weights: how much each caption counts."""
        self._captions, self._weights = captions, weights
        self._count = max((len(row) for row in captions), default=0)
        self._pictures = np.arange(len(captions)) if pictures is None else np.asarray(pictures)

    def __len__(self) -> int:
        return len(self._captions)

    def unpacked(self) -> "CaptionTable":
        """The same captions, each in its own row."""
        pairs = [(picture, caption) for picture, row in enumerate(self._captions) for caption in row]
        weights = None if self._weights is None else [[weight] for row in self._weights for weight in row]
        return CaptionTable([[caption] for _, caption in pairs], [picture for picture, _ in pairs], weights)

    def pictures(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pictures of these rows."""
        found: NDArray[np.int64] = self._pictures[indices]
        return found

    def rows(self, indices: NDArray[np.int64]) -> Tensor:
        """int64 [B, C, T] for these rows, padded with IGNORE; see `VisionPrefixLM.read`.

        C is that of the whole table, so that processes can exchange the results.
        """
        chosen = [self._captions[index] for index in indices]
        length = max(len(caption) for captions in chosen for caption in captions)
        table = torch.full((len(chosen), self._count, length), IGNORE)
        for row, captions in enumerate(chosen):
            for column, caption in enumerate(captions):
                table[row, column, : len(caption)] = torch.tensor(caption)
        return table

    def weights(self, indices: NDArray[np.int64]) -> Tensor | None:
        """float32 [B, C] for these rows, 0 where a row has fewer captions; None if all captions count 1."""
        if self._weights is None:
            return None
        table = torch.zeros(len(indices), self._count)
        for row, index in enumerate(indices):
            table[row, : len(self._weights[index])] = torch.tensor(self._weights[index])
        return table


def uniform_draws(key: Sequence[int], size: int, count: int) -> Tensor:
    """float32 [size, count], uniform from 0 to 1, from `key` alone: a row for each example of a global batch.

    Every process makes all of them and takes the rows of its own examples, so that an example's random numbers do not
    depend on how many processes share the batch.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    return torch.rand(size, count, generator=torch.Generator().manual_seed(seed))


def epoch_batches(size: int, batch_size: int, key: Sequence[int]) -> list[NDArray[np.int64]]:
    """The global batches of one epoch in an order drawn from `key`; a last, smaller batch is left out.

    If there are fewer than `batch_size` examples, they form the one batch.
    """
    order = np.random.default_rng(key).permutation(size)
    count = max(size // batch_size, 1)
    return [order[start * batch_size : (start + 1) * batch_size] for start in range(count)]


def share(batch: NDArray[np.int64], process: int, processes: int, parts: int) -> list[NDArray[np.int64]]:
    """One process's share of a global batch, cut into `parts` for gradient accumulation (fewer, if it is small)."""
    mine = batch[process::processes]
    return [part for part in np.array_split(mine, parts) if len(part)]


def check_shares(stage: Stage, sizes: Mapping[str, int], processes: int) -> None:
    """Raises TrainingError if the processes' shares differ so much that they would wait for each other forever.

    sizes: the examples of a step from each source.
    """
    for source, size in sizes.items():
        of = f" of {source}" if len(sizes) > 1 else ""
        change = f"change its {'sources' if stage.sources else 'batch_size'}"
        if stage.contrasts and size % processes:
            raise TrainingError(
                f"stage {stage.name}: a contrastive step's pictures must divide evenly, but {size}{of} do not among "
                f"{processes} processes: {change}."
            )
        smallest, largest = (
            len(share(np.arange(size), process, processes, stage.accumulate)) for process in (processes - 1, 0)
        )
        if smallest < largest:
            raise TrainingError(
                f"stage {stage.name}: {size} examples{of} a step are not enough for {processes} processes with as many "
                f"parts each (accumulate: {stage.accumulate}): {change}."
            )
