"""The training loop: stages of epochs of steps, with checkpoints, dev scores and logs.

No random state outlives a step: each step seeds itself from the recipe's seed and its own number, so that a run that
was killed and resumed does bit for bit what an uninterrupted one does. An example's random numbers follow from its
place in the step's batch, so they do not depend on how many processes share the batch; only dropout does.
"""

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from captionist.errors import TrainingError
from captionist.model.fusion import VisionPrefixLM
from captionist.training.batches import check_shares
from captionist.training.checkpoint import Progress, save_checkpoint
from captionist.training.dataset import TrainingData
from captionist.training.feed import Feed
from captionist.training.frozen import FrozenBackbone
from captionist.training.logs import RunLog
from captionist.training.objectives import Batch, Examples, Objective, build_objective, look
from captionist.training.optim import WeightAverage, learning_rate, prepare_stage
from captionist.training.pictures import PictureSet, normalise
from captionist.training.progress import StageBar
from captionist.training.recipe import Recipe
from captionist.training.sharding import (
    bring_up_to_date,
    cut_like,
    load_optimizer,
    optimizer_state,
    shard,
    wants_sharding,
    whole,
)
from captionist.training.stage import Stage
from captionist.training.validate import Show, Validator

_MEASURED = 8  # steps on whose pictures the image head's inputs are measured
_logger = logging.getLogger(__name__)


@dataclass
class _StageState:
    """What exists only while its stage runs."""

    stage: Stage
    objective: Objective
    feed: Feed
    trained: VisionPrefixLM  # has the parameters that the optimizer moves: the model, or its sharded copy
    wrapped: Any  # the same, as accelerate wraps it
    optimizer: Any
    average: WeightAverage | None
    dev_features: dict[str, NDArray[np.float16]] = field(default_factory=dict)  # by corpus


class Trainer:
    """Runs a recipe from wherever `progress` stands."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        model: VisionPrefixLM,
        data: TrainingData,
        accelerator: Accelerator,
        progress: Progress,
        state: dict[str, Any] | None,
    ) -> None:
        self.recipe, self.run, self.model, self.data = recipe, run, model, data
        self.accelerator, self.progress, self._restored = accelerator, progress, state
        self.device = accelerator.device
        self.main = accelerator.is_main_process
        self.validator = Validator(data.dev, recipe, accelerator.process_index, accelerator.num_processes)
        self.log = RunLog(run, progress, self.validator.columns) if self.main else None
        model.to(self.device)

    def train(self) -> None:
        """Run to the end of the last stage. Raises TrainingError if the loss is not finite."""
        with StageBar(self.main) as bar:
            for index in range(self.progress.stage, len(self.recipe.stages)):
                state = self._begin(self.recipe.stages[index], index)
                self._stage(state, index, bar)
                self.accelerator.free_memory()
        if self.log:
            self.model.save(self.run / "last")
            self.log.close()

    def _begin(self, stage: Stage, index: int) -> _StageState:
        objective, sources = build_objective(stage, self.data), [self.data.sources[name] for name in stage.shares]
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        feed = Feed(
            stage,
            (self.recipe.seed, index),
            sources,
            self.model.encoder,
            self.device,
            objective.draws,
            process,
            processes,
        )
        check_shares(stage, feed.sizes, processes)
        if self.model.alignment is not None:
            self.model.alignment.learn_from(self.data.teacher(()).width if stage.teacher else None)
        trained, optimizer = self.model, prepare_stage(self.model, stage)
        if wants_sharding():
            trained = shard(self.model, self.device, processes)
            optimizer = prepare_stage(trained, stage)
        average = WeightAverage(trained, stage.average or 0.0, stage.keep) if stage.average or stage.keep else None
        if self._restored is not None:
            load_optimizer(optimizer, self._restored["optimizer"])
            if average:
                restored, start = self._restored["average"], self._restored.get("start", {})
                average.weights = {name: cut_like(restored[name], mine) for name, mine in average.weights.items()}
                average.start = {name: cut_like(start[name], mine) for name, mine in average.start.items()}
            self._restored = None
        state = _StageState(stage, objective, feed, trained, trained, optimizer, average)
        with self.accelerator.main_process_first():  # it alone fills the caches
            self._open_pictures(state)
        if stage.contrasts:
            self._measure(state)
        if not wants_sharding():
            state.wrapped, state.optimizer = self.accelerator.prepare(trained, optimizer)
        return state

    def _measure(self, state: _StageState) -> None:
        """Measure the image head's inputs, unless that was done: on the same pictures in every process."""
        assert self.model.alignment is not None  # the recipe has been checked
        if self.model.alignment.measured:
            return
        steps = islice(replace(state.feed, process=0, processes=1).epoch(0, 0), _MEASURED)
        pictured = [examples for parts in steps for part in parts for examples in part if examples.pictured]
        self.model.eval()
        with torch.no_grad():
            seen = torch.cat([self.model.seen(look(self.model, examples)) for examples in pictured])
            objects = [e.annotations["objects"] for e in pictured if "objects" in e.annotations]
            for model in {self.model, state.trained}:
                assert model.alignment is not None
                model.alignment.measure(seen, torch.cat(objects) if objects else None)

    def _open_pictures(self, state: _StageState) -> None:
        """Decode the pictures of the stage, and compute a frozen backbone's features, unless that was done."""
        stage = state.stage
        train = {source.name: source.pictures for source in state.feed.sources if source.pictures is not None}
        dev = self.data.dev_pictures if stage.scored else {}
        for pictures in (*train.values(), *dev.values()):
            pictures.open()
        if stage.frozen == "backbone":
            bf16 = self.accelerator.mixed_precision == "bf16"
            backbone = FrozenBackbone(self.model.encoder, self.recipe.data.cache, self.recipe.seed, self.device, bf16)
            views = range(1 + stage.views * stage.augment)
            state.feed.features.update(
                {name: [backbone.features(pictures, view) for view in views] for name, pictures in train.items()}
            )
            state.dev_features = {name: backbone.features(pictures) for name, pictures in dev.items()}

    def _stage(self, state: _StageState, index: int, bar: StageBar) -> None:
        stage, progress, steps = state.stage, self.progress, state.feed.steps
        bar.begin(stage.name, steps * stage.epochs, progress.epoch * steps + progress.step)
        while True:
            if progress.to_validate:
                self._validate(state)
            if progress.epoch == stage.epochs:
                break
            self._epoch(state, index, bar)
        if state.average:  # the next stage continues from the averaged weights
            state.average.settle(state.trained)
        bring_up_to_date(self.model, state.trained)
        self.progress = progress.model_copy(update={"stage": index + 1, "epoch": 0, "step": 0})

    def _epoch(self, state: _StageState, index: int, bar: StageBar) -> None:
        stage, feed, progress = state.stage, state.feed, self.progress
        steps = feed.steps * stage.epochs
        for model in (self.model, state.trained):
            model.train(state.objective.dropout)
        since, examples = time.monotonic(), 0
        for parts in feed.epoch(progress.epoch, progress.step):
            done = progress.epoch * feed.steps + progress.step
            rate = learning_rate(done, steps, stage.warmup)
            loss, norm = self._step(state, parts, (self.recipe.seed, index, done), rate)
            progress.step += 1
            progress.total_steps += 1
            examples += sum(feed.sizes.values())
            bar.step(loss)
            if self.log and (progress.total_steps % self.recipe.log_every == 0):
                speed = examples / (time.monotonic() - since)
                self.log.step(
                    step=progress.total_steps,
                    stage=stage.name,
                    epoch=progress.epoch + 1,
                    loss=round(loss, 5),
                    rate=rate,
                    gradient_norm=round(norm, 4),
                    pictures_per_second=round(speed, 2),
                )
                since, examples = time.monotonic(), 0
            if progress.total_steps % self.recipe.checkpoint_every == 0 and progress.step < feed.steps:
                self._checkpoint(state)
        progress.epoch += 1
        progress.step = 0
        progress.to_validate = stage.scored
        self._checkpoint(state)

    def _step(
        self, state: _StageState, parts: tuple[Batch, ...], key: tuple[int, int, int], rate: float
    ) -> tuple[float, float]:
        process, processes, objective = self.accelerator.process_index, self.accelerator.num_processes, state.objective
        torch.manual_seed(int(np.random.SeedSequence((*key, process)).generate_state(1)[0]))  # for dropout
        for group in state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        if objective.prepares:
            bring_up_to_date(self.model, state.trained)
            with torch.no_grad(), self.accelerator.autocast():
                parts = tuple(objective.prepare(self.model, part) for part in parts)
        sizes = torch.tensor(sum(objective.size(part) for part in parts), device=self.device)
        size = max(int(self.accelerator.reduce(sizes)), 1)
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(parts):
            # Only the last part's backward pass makes the processes exchange gradients. Sharded, they have no room for
            # whole gradients, and always exchange them.
            last = number == len(parts) - 1 or wants_sharding()
            with nullcontext() if last else self.accelerator.no_sync(state.wrapped):
                with self.accelerator.autocast():
                    result = state.wrapped(objective, part)
                # Gradients are averaged over the processes, but the loss is divided by the size of the whole global
                # batch.
                self.accelerator.backward(result * processes / size)
            total += result.detach()
        loss = float(self.accelerator.reduce(total)) / size
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} in stage {state.stage.name}, epoch {self.progress.epoch + 1}, step "
                f"{self.progress.step + 1}. The last checkpoint in {self.run} is from before: lower the rates or clip "
                "harder, and start the run again."
            )
        norm = self.accelerator.clip_grad_norm_(state.trained.parameters(), state.stage.clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average:
            state.average.update(state.trained, key[2])
        return loss, float(whole(norm))

    def _checkpoint(self, state: _StageState) -> None:
        bring_up_to_date(self.model, state.trained)
        saved = {"optimizer": optimizer_state(state.optimizer)}
        if state.average:
            for name, weights in (("average", state.average.weights), ("start", state.average.start)):
                saved[name] = {parameter: whole(weight) for parameter, weight in weights.items()}
        if self.main:
            save_checkpoint(self.run, self.progress, self.model, saved)
        self.accelerator.wait_for_everyone()

    def _validate(self, state: _StageState) -> None:
        """Score the averaged weights, or the model's if there is no average, and keep them if they are the best."""
        with state.average.shown(state.trained) if state.average else nullcontext():
            self._score(state)
        self._checkpoint(state)

    def _score(self, state: _StageState) -> None:
        begun = time.monotonic()
        bring_up_to_date(self.model, state.trained)
        self.model.eval()
        shown = {name: self._dev(state, name) for name in self.data.dev}
        with torch.inference_mode(), self.accelerator.autocast():
            captions = {name: self.validator.captions(self.model, name, show) for name, show in shown.items()}
            compared = shown if state.stage.contrasts else {}
            recalls = {name: self.validator.recalls(self.model, name, show) for name, show in compared.items()}
        progress = self.progress
        progress.to_validate = False
        if self.log:
            scores = self.validator.scores(captions, recalls)
            self.log.epoch(
                step=progress.total_steps,
                stage=state.stage.name,
                epoch=progress.epoch,
                seconds=round(time.monotonic() - begun, 1),
                **{name: round(score, 3) for name, score in scores.items()},
            )
            self.log.samples(self.validator.by_picture(captions))
            _logger.info("%s epoch %d: %s", state.stage.name, progress.epoch, scores)
            # When only the heads train, the captions stay as they are, and so does their score.
            equal = state.stage.contrasts and scores["cider"] == progress.best
            if progress.best is None or scores["cider"] > progress.best or equal:
                progress.best = scores["cider"]
                self.model.save(self.run / "best")

    def _dev(self, state: _StageState, corpus: str) -> Show:
        """How the model is shown a range of a corpus's dev pictures."""
        pictures: PictureSet = self.data.dev_pictures[corpus]

        def show(start: int, stop: int) -> Examples:
            rows = np.arange(start, stop)
            annotations = {name: a.to(self.device) for name, a in pictures.annotations(rows).items()}
            captions = torch.zeros(len(rows), 0, 0, dtype=torch.long)
            if corpus in state.dev_features:
                features = torch.from_numpy(state.dev_features[corpus][rows]).to(self.device).float()
                return Examples(captions, features=features, annotations=annotations)
            pixels = torch.from_numpy(next(pictures.batches([rows]))).to(self.device)
            return Examples(captions, pixels=normalise(pixels, self.model.encoder), annotations=annotations)

        return show
