"""Cuts a stage's sources into batches, for one process: what each step sees follows from the seed and its number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captionist.model.vision import Encoder
from captionist.training.augment import AUGMENT_DRAWS, augment
from captionist.training.batches import epoch_batches, share, uniform_draws
from captionist.training.objectives import Batch, Examples
from captionist.training.pictures import normalise
from captionist.training.sources import Source
from captionist.training.stage import Stage


@dataclass
class Feed:
    """The batches of one stage, as seen by one of several processes that share them."""

    stage: Stage
    key: tuple[int, int]
    """The recipe's seed and the stage's number."""
    sources: Sequence[Source]
    encoder: Encoder
    device: torch.device
    draws: int
    """Uniform numbers that the objective takes per example."""
    process: int = 0
    processes: int = 1
    features: dict[str, list[NDArray[np.float16]]] = field(default_factory=dict)
    """By source, a frozen backbone's features of its pictures, and of each augmented view of them; or nothing."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many examples of each source are in a step: its share, or all it has."""
        tables = {source.name: len(source.table(self.stage.packed)) for source in self.sources}
        return {name: min(count, tables[name]) for name, count in self.stage.shares.items()}

    @cached_property
    def steps(self) -> int:
        """Steps per epoch: one round of the first source."""
        first = self.sources[0]
        return len(first.table(self.stage.packed)) // self.sizes[first.name]

    def epoch(self, epoch: int, begin: int) -> Iterator[tuple[Batch, ...]]:
        """This process's part of each step of an epoch, from step `begin` on, in parts for gradient accumulation."""
        steps = range(epoch * self.steps + begin, (epoch + 1) * self.steps)
        pixels = [self._pixels(number, steps) for number in range(len(self.sources))]
        for step in steps:
            columns = []
            for number, source in enumerate(self.sources):
                key = self._key(number, step)
                draws = uniform_draws(key, self.sizes[source.name], 1 + AUGMENT_DRAWS + self.draws)
                columns.append(
                    [self._examples(source, *rows, draws, key, pixels[number]) for rows in self._rows(number, step)]
                )
            yield _rows_of(columns)

    def _key(self, number: int, step: int) -> tuple[int, ...]:
        """The key for a source's random numbers in a step. The first source's are as if it were the only one."""
        return (*self.key, step, *((number,) if number else ()))

    def _rows(self, number: int, step: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """This process's parts of a source's share of a step: int64 [B] rows of its table, and places in the share.

        Each round through a source has an order of its own.
        """
        source = self.sources[number]
        count, size = len(source.table(self.stage.packed)), self.sizes[source.name]
        turn, place = divmod(step, max(count // size, 1))
        batch = _round(count, size, self._key(number, turn))[place]
        return [
            (batch[part], part) for part in share(np.arange(size), self.process, self.processes, self.stage.accumulate)
        ]

    def _pixels(self, number: int, steps: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """A source's pictures for all these steps, in order; none for texts and for frozen features."""
        source = self.sources[number]
        if source.pictures is None or source.name in self.features:
            return iter(())
        table = source.table(self.stage.packed)
        return source.pictures.batches([table.pictures(rows) for step in steps for rows, _ in self._rows(number, step)])

    def _examples(
        self,
        source: Source,
        numbers: NDArray[np.int64],
        places: NDArray[np.int64],
        draws: Tensor,
        key: tuple[int, ...],
        pixels: Iterator[NDArray[np.uint8]],
    ) -> Examples:
        table = source.table(self.stage.packed)
        weights, rows, draws = table.weights(numbers), table.pictures(numbers), draws[places]
        found = self._features(source.name, rows, draws[:, 0])
        return Examples(
            captions=table.rows(numbers).to(self.device),
            weights=None if weights is None else weights.to(self.device),
            pixels=self._prepare(source, next(pixels), rows, draws) if source.pictures and found is None else None,
            features=found,
            annotations={n: a.to(self.device) for n, a in source.annotations(rows, key, places).items()},
            draws=draws[:, 1 + AUGMENT_DRAWS :],
            source=source.name,
            rows=rows,
        )

    def _features(self, source: str, rows: NDArray[np.int64], draws: Tensor) -> Tensor | None:
        """float [B, F, C], from a view drawn for each picture; None if no backbone is frozen."""
        if source not in self.features:
            return None
        features = self.features[source]
        views = (draws * len(features)).long()
        chosen = np.stack([features[view][row] for view, row in zip(views, rows, strict=True)])
        return torch.from_numpy(chosen).to(self.device).float()

    def _prepare(self, source: Source, pictures: NDArray[np.uint8], rows: NDArray[np.int64], draws: Tensor) -> Tensor:
        """uint8 [B, R, R, 3] -> float [B, 3, H, W], augmented if the stage says so."""
        assert source.pictures is not None
        pixels = torch.from_numpy(pictures).to(self.device)
        if self.stage.augment:
            pixels = augment(pixels, source.pictures.flippable[rows], draws[:, 1 : 1 + AUGMENT_DRAWS])
        normalised = normalise(pixels, self.encoder)
        if self.stage.resolution:
            side = (self.stage.resolution, self.stage.resolution)
            normalised = F.interpolate(normalised, side, mode="bilinear", antialias=True)
        return normalised


_round = lru_cache(8)(epoch_batches)  # for a few sources; the same in all steps of a round


def _rows_of(columns: list[list[Examples]]) -> tuple[Batch, ...]:
    """Each source's parts -> parts with something of each source.

    A source with fewer parts than others is in the last ones: gradients are exchanged after the last one, and by then
    DDP wants all trained parameters used.
    """
    count = max(len(column) for column in columns)
    rows = [[None] * (count - len(column)) + list(column) for column in columns]
    return tuple(tuple(examples for examples in row if examples is not None) for row in zip(*rows, strict=True))
