"""The training loop: stages of epochs of steps, with checkpoints, dev scores and logs.

Nothing random outlives a step: each step seeds itself from the recipe's seed and its own number, so that a run that
was killed and resumed does bit for bit what an uninterrupted one does. What is random for an example follows from its
place in the step's batch, so that it does not depend on how many processes share that either; dropout alone does.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from captionist.errors import TrainingError
from captionist.model.fusion import VisionPrefixLM
from captionist.training.augment import AUGMENT_DRAWS, augment
from captionist.training.batches import (
    CaptionTable,
    check_shares,
    count_tokens,
    epoch_batches,
    share,
    uniform_draws,
)
from captionist.training.checkpoint import Progress, save_checkpoint
from captionist.training.dataset import TrainingData
from captionist.training.logs import RunLog
from captionist.training.optim import WeightAverage, learning_rate, prepare_stage
from captionist.training.pictures import Change, normalise, open_features
from captionist.training.progress import Reporter
from captionist.training.recipe import Recipe, Stage
from captionist.training.self_critical import SelfCritic, sample_captions
from captionist.training.sharding import (
    bring_up_to_date,
    cut_like,
    load_optimizer,
    optimizer_state,
    shard,
    wants_sharding,
    whole,
)
from captionist.training.validate import Validator

_logger = logging.getLogger(__name__)


@dataclass
class _StageState:
    """What exists only while its stage runs."""

    stage: Stage
    trained: VisionPrefixLM  # whose parameters the optimizer moves: the model, or its sharded copy
    wrapped: Any  # that, as accelerate wraps it
    optimizer: Any
    average: WeightAverage | None
    features: list[NDArray[np.float16]]  # of the pictures, and of every augmented view of them
    dev_features: NDArray[np.float16] | None


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
        self.log = RunLog(run, progress) if self.main else None
        self.validator = Validator(
            data.dev, recipe.validation, recipe.data.lowercase, accelerator.process_index, accelerator.num_processes
        )
        model.to(self.device)

    @cached_property
    def critic(self) -> SelfCritic:
        """What self-critical stages reward captions by."""
        return SelfCritic(self.data)

    def train(self) -> None:
        """Run to the end of the last stage. Raises TrainingError where the loss is not finite."""
        with Reporter(self.main) as reporter:
            for index in range(self.progress.stage, len(self.recipe.stages)):
                state = self._begin(self.recipe.stages[index])
                self._stage(state, index, reporter)
                self.accelerator.free_memory()
        if self.log:
            self.model.save(self.run / "last")
            self.log.close()

    def _begin(self, stage: Stage) -> _StageState:
        check_shares(stage, len(self._table(stage)), self.accelerator.num_processes)
        trained, optimizer = self.model, prepare_stage(self.model, stage)
        if wants_sharding():
            trained = shard(self.model, self.device, self.accelerator.num_processes)
            optimizer = prepare_stage(trained, stage)
        average = WeightAverage(trained, stage.average) if stage.average else None
        if self._restored is not None:
            load_optimizer(optimizer, self._restored["optimizer"])
            if average:
                restored = self._restored["average"]
                average.weights = {name: cut_like(restored[name], mine) for name, mine in average.weights.items()}
            self._restored = None
        features, dev_features = [], None
        if stage.objective != "text":
            with self.accelerator.main_process_first():  # which alone fills the caches
                self.data.open_pictures()
                if stage.frozen == "backbone":
                    features = [self._features(view) for view in range(1 + stage.views * stage.augment)]
                    dev_features = self._open_features(self.data.dev_pixels, self.data.dev_key)
        wrapped: Any = trained
        if not wants_sharding():
            wrapped, optimizer = self.accelerator.prepare(trained, optimizer)
        return _StageState(stage, trained, wrapped, optimizer, average, features, dev_features)

    def _features(self, view: int) -> NDArray[np.float16]:
        """The backbone's features of the train pictures (view 0), or of one augmentation of each, drawn for good."""
        if view == 0:
            return self._open_features(self.data.pixels, self.data.key)

        def change(pixels: Tensor, start: int) -> Tensor:
            flippable = self.data.flippable[start : start + len(pixels)]
            return augment(
                pixels, flippable, uniform_draws((self.recipe.seed, view, start), len(pixels), AUGMENT_DRAWS)
            )

        key = f"{self.data.key} {self.recipe.seed} {view} {AUGMENT_DRAWS} {self.data.flippable.tolist()}"
        return self._open_features(self.data.pixels, key, change)

    def _open_features(self, pixels: NDArray[np.uint8], key: str, change: Change | None = None) -> NDArray[np.float16]:
        bf16 = self.accelerator.mixed_precision == "bf16"
        return open_features(self.model.encoder, pixels, key, self.recipe.data.cache, self.device, bf16, change)

    def _stage(self, state: _StageState, index: int, reporter: Reporter) -> None:
        stage, progress = state.stage, self.progress
        while True:
            if progress.to_validate:
                self._validate(state)
            if progress.epoch == stage.epochs:
                break
            self._epoch(state, index, reporter)
        if state.average:  # the next stage goes on from the averaged weights
            state.average.swap(state.trained)
        bring_up_to_date(self.model, state.trained)
        self.progress = progress.model_copy(update={"stage": index + 1, "epoch": 0, "step": 0})

    def _epoch(self, state: _StageState, index: int, reporter: Reporter) -> None:
        stage, progress = state.stage, self.progress
        table = self._table(stage)
        batches = epoch_batches(len(table), stage.batch_size, (self.recipe.seed, index, progress.epoch))
        steps = len(batches) * stage.epochs
        reporter.stage(stage.name, steps, progress.epoch * len(batches) + progress.step)
        # Dropout would make the samples of self-critical training another model's than the one that is trained.
        for model in (self.model, state.trained):
            model.train(stage.objective != "self_critical")
        since, pictures = time.monotonic(), 0
        for batch in batches[progress.step :]:
            done = progress.epoch * len(batches) + progress.step
            rate = learning_rate(done, steps, stage.warmup)
            loss, norm = self._step(state, index, batch, done, rate)
            progress.step += 1
            progress.total_steps += 1
            pictures += len(batch)
            reporter.advance(loss)
            if self.log and (progress.total_steps % self.recipe.log_every == 0):
                speed = pictures / (time.monotonic() - since)
                self.log.step(
                    step=progress.total_steps,
                    stage=stage.name,
                    epoch=progress.epoch + 1,
                    loss=round(loss, 5),
                    rate=rate,
                    gradient_norm=round(norm, 4),
                    pictures_per_second=round(speed, 2),
                )
                since, pictures = time.monotonic(), 0
            if progress.total_steps % self.recipe.checkpoint_every == 0 and progress.step < len(batches):
                self._checkpoint(state)
        progress.epoch += 1
        progress.step = 0
        progress.to_validate = stage.objective != "text"
        self._checkpoint(state)

    def _step(
        self, state: _StageState, index: int, batch: NDArray[np.int64], done: int, rate: float
    ) -> tuple[float, float]:
        stage = state.stage
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        key = (self.recipe.seed, index, done)
        torch.manual_seed(int(np.random.SeedSequence((*key, process)).generate_state(1)[0]))  # for dropout
        draws = uniform_draws(key, len(batch), self._draws(stage))
        for group in state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        shares = share(np.arange(len(batch)), process, processes, stage.accumulate)
        if stage.objective == "self_critical":
            bring_up_to_date(self.model, state.trained)
            sampled = [self._sampled(state, batch[part], draws[part]) for part in shares]
            counts = torch.tensor(sum(count_tokens(part["captions"]) for part in sampled), device=self.device)
            parts, tokens = iter(sampled), max(int(self.accelerator.reduce(counts)), 1)
        else:
            # One at a time, as accumulation is there to save memory.
            parts = (self._inputs(state, batch[part], draws[part]) for part in shares)
            tokens = len(batch) if stage.objective == "contrastive" else self._table(stage).tokens(batch)
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(parts):
            # Only the last part's backward pass makes the processes exchange gradients; sharded, they have no room for
            # whole ones and always do.
            last = number == len(shares) - 1 or wants_sharding()
            with nullcontext() if last else self.accelerator.no_sync(state.wrapped):
                with self.accelerator.autocast():
                    result = state.wrapped(**part, label_smoothing=stage.label_smoothing)
                # Gradients are averaged over the processes, but the loss is one over all tokens of the global batch.
                self.accelerator.backward(result.total * processes / tokens)
            total += result.total.detach()
        loss = float(self.accelerator.reduce(total)) / tokens
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} in stage {stage.name}, epoch {self.progress.epoch + 1}, step "
                f"{self.progress.step + 1}. The last checkpoint in {self.run} is from before: lower the rates or clip "
                "harder, and start the run again."
            )
        norm = self.accelerator.clip_grad_norm_(state.trained.parameters(), stage.clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average:
            state.average.update(state.trained, done)
        return loss, float(whole(norm))

    def _table(self, stage: Stage) -> CaptionTable:
        if stage.objective == "text":
            return self.data.text
        return self.data.captions if stage.packed else self.data.single_captions

    def _draws(self, stage: Stage) -> int:
        """How many uniform numbers an example takes: for view, augmentation, and each token of samples."""
        samples = stage.samples if stage.objective == "self_critical" else 0
        return 1 + AUGMENT_DRAWS + samples * self.recipe.data.max_caption_tokens

    def _inputs(self, state: _StageState, part: NDArray[np.int64], draws: Tensor) -> dict[str, Any]:
        """The model's arguments for these rows of the stage's table; draws float [B, D], D as in `_draws`."""
        table = self._table(state.stage)
        inputs: dict[str, Any] = {"captions": table.rows(part).to(self.device)}
        if state.stage.objective == "text":
            return inputs
        stage = state.stage
        inputs["feature_dropout"] = stage.feature_dropout
        if stage.naming and len(self.data.words):
            inputs["naming"] = (self.data.words.to(self.device), stage.naming)
        if stage.contrasts:
            inputs["contrast"] = stage.contrastive or 1.0
            inputs["captioning"] = stage.objective == "caption"
        part = table.pictures(part)
        if state.features:
            views = (draws[:, 0] * len(state.features)).long()
            chosen = np.stack([state.features[view][index] for view, index in zip(views, part, strict=True)])
            return inputs | {"features": torch.from_numpy(chosen).to(self.device).float()}
        pixels = torch.from_numpy(self.data.pixels[part]).to(self.device)
        if stage.augment:
            pixels = augment(pixels, self.data.flippable[part], draws[:, 1 : 1 + AUGMENT_DRAWS])
        normalised = normalise(pixels, self.model.encoder)
        if stage.resolution:
            normalised = F.interpolate(normalised, (stage.resolution,) * 2, mode="bilinear", antialias=True)
        return inputs | {"pixels": normalised}

    def _sampled(self, state: _StageState, part: NDArray[np.int64], draws: Tensor) -> dict[str, Any]:
        """As `_inputs`, but with captions that the model writes itself, each weighed by its advantage."""
        inputs = self._inputs(state, part, draws)
        with torch.no_grad(), self.accelerator.autocast():
            if "features" in inputs:
                visual_tokens = self.model.project(inputs["features"])
            else:
                visual_tokens = self.model.encode(inputs["pixels"])
            tokens = draws[:, 1 + AUGMENT_DRAWS :].view(len(part), state.stage.samples, -1)
            captions = sample_captions(self.model, visual_tokens, tokens)
        return inputs | {"captions": captions, "weights": self.critic.advantages(captions, part)}

    def _checkpoint(self, state: _StageState) -> None:
        bring_up_to_date(self.model, state.trained)
        average = state.average and {name: whole(weight) for name, weight in state.average.weights.items()}
        saved = {"optimizer": optimizer_state(state.optimizer), "average": average}
        if self.main:
            save_checkpoint(self.run, self.progress, self.model, saved)
        self.accelerator.wait_for_everyone()

    def _validate(self, state: _StageState) -> None:
        """Score the averaged weights, or the model's where there is no average, and keep them if they are the best."""
        begun = time.monotonic()
        if state.average:
            state.average.swap(state.trained)
        bring_up_to_date(self.model, state.trained)
        self.model.eval()
        with torch.inference_mode(), self.accelerator.autocast():
            captions = self.validator.captions(self.model, self._encoder(state))
            recalls = self.validator.recalls(self.model, self._encoder(state)) if state.stage.contrasts else {}
        progress = self.progress
        progress.to_validate = False
        if self.log:
            scores = self.validator.scores(captions) | recalls
            self.log.epoch(
                step=progress.total_steps,
                stage=state.stage.name,
                epoch=progress.epoch,
                seconds=round(time.monotonic() - begun, 1),
                **{name: round(score, 3) for name, score in scores.items()},
            )
            self.log.samples(dict(zip((e.id for e in self.data.dev), captions, strict=True)))
            _logger.info("%s epoch %d: %s", state.stage.name, progress.epoch, scores)
            # Heads that train by themselves leave the captions, and so their score, as they are.
            equal = state.stage.contrasts and scores["cider"] == progress.best
            if progress.best is None or scores["cider"] > progress.best or equal:
                progress.best = scores["cider"]
                self.model.save(self.run / "best")
        if state.average:
            state.average.swap(state.trained)
        self._checkpoint(state)

    def _encoder(self, state: _StageState) -> Callable[[VisionPrefixLM, int, int], Tensor]:
        # Copied, because torch wants no memory that it may not write to.
        def encode(model: VisionPrefixLM, start: int, stop: int) -> Tensor:
            if state.dev_features is not None:
                return model.project(torch.from_numpy(np.array(state.dev_features[start:stop])).to(self.device).float())
            pixels = torch.from_numpy(np.array(self.data.dev_pixels[start:stop])).to(self.device)
            return model.encode(normalise(pixels, model.encoder))

        return encode
