"""Cuts a stage's sources into batches, for one process: what each step sees follows from the seed and its number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

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


class Portion(NamedTuple):
    """Some of a source's share of a step: rows int64 [B] of its table, and their places int64 [B] in the share."""

    rows: NDArray[np.int64]
    places: NDArray[np.int64]


@dataclass
class Feed:
    """The batches of one stage, as one of several processes that share them sees them."""

    stage: Stage
    key: tuple[int, int]
    """The recipe's seed and the stage's number."""
    sources: Sequence[Source]
    encoder: Encoder
    device: torch.device
    draws: int
    """Uniform numbers that the objective takes for an example."""
    process: int = 0
    processes: int = 1
    features: dict[str, list[NDArray[np.float16]]] = field(default_factory=dict)
    """By source, what a frozen backbone made of its pictures, and of each augmented view of them; or nothing."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many examples of each source are in a step: its share, or all that it has."""
        tables = {source.name: len(source.table(self.stage.packed)) for source in self.sources}
        return {name: min(count, tables[name]) for name, count in self.stage.shares.items()}

    @cached_property
    def steps(self) -> int:
        """Steps of an epoch: one round of the first source."""
        first = self.sources[0]
        return len(first.table(self.stage.packed)) // self.sizes[first.name]

    def epoch(self, epoch: int, begin: int) -> Iterator[tuple[Batch, ...]]:
        """This process's part of each step of an epoch from step `begin` on, in parts for gradient accumulation."""
        plans = [self._plan(number, epoch, begin) for number in range(len(self.sources))]
        pixels = [self._pixels(source, plan) for source, plan in zip(self.sources, plans, strict=True)]
        for step in range(begin, self.steps):
            columns = []
            for number, source in enumerate(self.sources):
                key = self._step_key(number, epoch * self.steps + step)
                draws = uniform_draws(key, self.sizes[source.name], 1 + AUGMENT_DRAWS + self.draws)
                portions = plans[number][step - begin]
                columns.append([self._examples(source, p, draws[p.places], key, pixels[number]) for p in portions])
            yield _rows_of(columns)

    def _step_key(self, number: int, step: int) -> tuple[int, ...]:
        """Names what is random for a source in a step; the first one's are as they were when it was the only one."""
        return (*self.key, step, *((number,) if number else ()))

    def _plan(self, number: int, epoch: int, begin: int) -> list[list[Portion]]:
        """Each step's portions of a source. It goes round in an order that is drawn anew for each round."""
        source = self.sources[number]
        size = self.sizes[source.name]
        rounds: dict[int, list[NDArray[np.int64]]] = {}
        plan = []
        for step in range(begin, self.steps):
            length = max(len(source.table(self.stage.packed)) // size, 1)
            turn, place = divmod(epoch * self.steps + step, length)
            if turn not in rounds:
                rounds = {turn: epoch_batches(len(source.table(self.stage.packed)), size, self._step_key(number, turn))}
            batch = rounds[turn][place]
            parts = share(np.arange(size), self.process, self.processes, self.stage.accumulate)
            plan.append([Portion(batch[places], places) for places in parts])
        return plan

    def _pixels(self, source: Source, plan: list[list[Portion]]) -> Iterator[NDArray[np.uint8]]:
        """The pictures of all these portions, in that order; of texts and of frozen features none are needed."""
        if source.pictures is None or source.name in self.features:
            return iter(())
        table = source.table(self.stage.packed)
        wanted = [table.pictures(portion.rows) for portions in plan for portion in portions]
        return source.pictures.batches(wanted)

    def _examples(
        self,
        source: Source,
        portion: Portion,
        draws: Tensor,
        key: tuple[int, ...],
        pixels: Iterator[NDArray[np.uint8]],
    ) -> Examples:
        table = source.table(self.stage.packed)
        weights, rows = table.weights(portion.rows), table.pictures(portion.rows)
        found = self._features(source.name, rows, draws[:, 0])
        return Examples(
            captions=table.rows(portion.rows).to(self.device),
            weights=None if weights is None else weights.to(self.device),
            pixels=self._prepare(source, next(pixels), rows, draws) if source.pictures and found is None else None,
            features=found,
            annotations={n: a.to(self.device) for n, a in source.annotations(rows, key, portion.places).items()},
            draws=draws[:, 1 + AUGMENT_DRAWS :],
            source=source.name,
            rows=rows,
        )

    def _features(self, source: str, rows: NDArray[np.int64], draws: Tensor) -> Tensor | None:
        """float [B, F, C], of a view drawn for each picture; none where no backbone is frozen."""
        if source not in self.features:
            return None
        features = self.features[source]
        views = (draws * len(features)).long()
        chosen = np.stack([features[view][row] for view, row in zip(views, rows, strict=True)])
        return torch.from_numpy(chosen).to(self.device).float()

    def _prepare(self, source: Source, pictures: NDArray[np.uint8], rows: NDArray[np.int64], draws: Tensor) -> Tensor:
        """uint8 [B, R, R, 3] -> float [B, 3, H, W], augmented where the stage says so."""
        assert source.pictures is not None
        pixels = torch.from_numpy(pictures).to(self.device)
        if self.stage.augment:
            pixels = augment(pixels, source.pictures.flippable[rows], draws[:, 1 : 1 + AUGMENT_DRAWS])
        normalised = normalise(pixels, self.encoder)
        if self.stage.resolution:
            side = (self.stage.resolution, self.stage.resolution)
            normalised = F.interpolate(normalised, side, mode="bilinear", antialias=True)
        return normalised


def _rows_of(columns: list[list[Examples]]) -> tuple[Batch, ...]:
    """Each source's parts -> parts with something of each source.

    A source with fewer parts than others is in the last ones: when gradients are exchanged, after the last, DDP wants
    all that trains to have been used.
    """
    count = max(len(column) for column in columns)
    rows = [[None] * (count - len(column)) + list(column) for column in columns]
    return tuple(tuple(examples for examples in row if examples is not None) for row in zip(*rows, strict=True))
