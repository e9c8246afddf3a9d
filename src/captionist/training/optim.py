"""AdamW's parameter groups, the learning rate's course, and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from captionist.errors import RecipeError
from captionist.model.fusion import VisionPrefixLM
from captionist.training.stage import Stage

# Vectors, or one vector per position, even if the tensor has more dimensions.
_VECTORS = ("wpe", "position_embedding", "cls_token", "distillation_token", "register_tokens")


def prepare_stage(model: VisionPrefixLM, stage: Stage) -> torch.optim.AdamW:
    """Freeze what the stage freezes and give the rest an AdamW (Loshchilov & Hutter 2019).

    Biases, norms and other vectors have no weight decay, and neither do the position embeddings of pretrained models.
    Raises RecipeError if more is frozen than there is, or if nothing trains.
    """
    backbone = model.encoder.backbone_modules()
    spared = {id(p) for name, p in model.named_parameters() if p.ndim < 2 or any(part in name for part in _VECTORS)}
    frozen = len(backbone) if stage.frozen == "backbone" else stage.frozen
    if frozen > len(backbone):
        raise RecipeError(f"stage {stage.name}: frozen is {frozen}, but the backbone has {len(backbone)} parts.")
    model.requires_grad_(False)
    groups: list[dict[str, object]] = []

    def add(parameters: list[nn.Parameter], rate: float) -> None:
        for decays in (True, False):
            chosen = [p for p in parameters if (id(p) not in spared) is decays]
            if rate and chosen:
                for parameter in chosen:
                    parameter.requires_grad_(True)
                decay = stage.weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": rate, "initial_lr": rate, "weight_decay": decay})

    add(list(model.decoder.parameters()), stage.rates.decoder)
    if model.words is not None:
        classifier = list(model.words.classifier.parameters())
        known = {id(parameter) for parameter in classifier}
        add([p for p in model.words.parameters() if id(p) not in known], stage.rates.words)
        add(classifier, stage.rates.classifier)
    if stage.objective != "text":
        neck = model.encoder.neck_parameters()
        add(list(model.projection.parameters()), stage.rates.projection)
        if model.alignment is not None:
            add(list(model.alignment.parameters()), stage.rates.alignment)
        add(neck, stage.rates.neck)
        if stage.frozen != "backbone":
            for depth, module in enumerate(reversed(backbone[frozen:])):
                add(list(module.parameters()), stage.rates.encoder * stage.layer_decay**depth)
    if not groups:
        raise RecipeError(f"stage {stage.name} trains nothing: give it at least one rate above 0.")
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8)


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at `step` of `steps`: linear warm-up, then half a cosine to zero."""
    rising = max(round(steps * warmup), 1)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


class WeightAverage:
    """Exponential moving average of the trained weights (Polyak & Juditsky 1992), short at first.

    If it keeps a share of the weights that the stage began with, what is learnt costs less of what was known before
    (WiSE-FT; Wortsman et al. 2022, arXiv:2109.01903).
    """

    def __init__(self, model: nn.Module, decay: float, keep: float = 0.0) -> None:
        """decay: 0 follows the weights themselves; keep: share of the present weights that stays."""
        self.decay, self.keep = decay, keep
        self.weights: dict[str, Tensor] = {
            name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad
        }
        self.start = {name: weight.clone() for name, weight in self.weights.items()} if keep else {}

    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's weights after its `step`-th update (from 0)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, parameter in model.named_parameters():
            if name in self.weights:
                self.weights[name].lerp_(parameter.detach(), 1 - decay)

    def settle(self, model: nn.Module) -> None:
        """Give the model the averaged weights."""
        for name, parameter in model.named_parameters():
            if name in self.weights:
                mean = self.weights[name]
                parameter.detach().copy_(mean.lerp(self.start[name], self.keep) if self.keep else mean)

    @contextmanager
    def shown(self, model: nn.Module) -> Iterator[None]:
        """For as long as the context lasts, the model has the averaged weights."""
        own = {name: p.detach().clone() for name, p in model.named_parameters() if name in self.weights}
        self.settle(model)
        try:
            yield
        finally:
            for name, parameter in model.named_parameters():
                if name in own:
                    parameter.detach().copy_(own[name])
