"""What a stage trains, at which rate, and the moving average."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from captionist.errors import RecipeError
from captionist.model.fusion import VisionPrefixLM
from captionist.training.optim import WeightAverage, learning_rate, prepare_stage
from captionist.training.stage import Rates, Stage
from tests.model.checkpoints import VIT_FAMILIES, Checkpoints

RATES = {"encoder": 1e-5, "neck": 2e-5, "projection": 3e-5, "decoder": 4e-5}


def stage(**changes: Any) -> Stage:
    values: dict[str, Any] = {"name": "s", "epochs": 1, "batch_size": 2, "rates": RATES, "weight_decay": 0.1}
    return Stage.model_validate(values | changes)


def settings(model: VisionPrefixLM, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """(rate, weight decay) of each trained parameter by its name; each is in one group."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    return found


@pytest.fixture(params=[*VIT_FAMILIES, "hybrid"])
def model(request: pytest.FixtureRequest, checkpoints: Checkpoints) -> VisionPrefixLM:
    return checkpoints.model(checkpoints.hybrid() if request.param == "hybrid" else checkpoints.vit(request.param))


def test_every_parameter_trains_at_its_own_rate(model: VisionPrefixLM) -> None:
    found = settings(model, prepare_stage(model, stage(frozen=0)))
    assert set(found) == {name for name, _ in model.named_parameters()}
    neck = {id(p) for p in model.encoder.neck_parameters()}
    for name, parameter in model.named_parameters():
        part = "neck" if id(parameter) in neck else name.split(".")[0]
        assert found[name][0] == RATES[part], name


def test_rates_fall_from_part_to_part(model: VisionPrefixLM) -> None:
    found = settings(model, prepare_stage(model, stage(frozen=1, layer_decay=0.5)))
    names = {id(p): name for name, p in model.named_parameters()}
    frozen, *parts = model.encoder.backbone_modules()
    for depth, part in enumerate(reversed(parts)):
        for parameter in part.parameters():
            assert found[names[id(parameter)]][0] == RATES["encoder"] * 0.5**depth
    assert not {names[id(p)] for p in frozen.parameters()} & set(found)


def test_no_decay_on_biases_norms_and_positions(model: VisionPrefixLM) -> None:
    found = settings(model, prepare_stage(model, stage(frozen=0)))
    spared = {
        f"{name}.{leaf}"
        for name, module in model.named_modules()
        for leaf, _ in module.named_parameters(recurse=False)
        if isinstance(module, nn.LayerNorm) or leaf == "bias" or "token" in leaf
    }
    spared |= {name for name in found if "position" in name or "class_embedding" in name}
    spared |= {name for name in found if "layer_scale" in name or name == "decoder.wpe.weight"}
    spared.discard("encoder.positions")  # a hybrid's do decay: the embedded model was trained so
    assert {"projection.bias", "decoder.ln_f.weight", "decoder.wpe.weight"} <= spared
    assert {name for name, (_, decay) in found.items() if decay == 0} == spared


def test_a_frozen_backbone_leaves_the_neck(model: VisionPrefixLM) -> None:
    found = settings(model, prepare_stage(model, stage(frozen="backbone")))
    neck = {id(p) for p in model.encoder.neck_parameters()}
    trained = {name for name, p in model.named_parameters() if id(p) in neck or not name.startswith("encoder.")}
    assert set(found) == trained


def test_more_frozen_parts_than_there_are(model: VisionPrefixLM) -> None:
    parts = len(model.encoder.backbone_modules())
    prepare_stage(model, stage(frozen=parts))
    with pytest.raises(RecipeError, match=rf"frozen is {parts + 1}.*{parts} parts"):
        prepare_stage(model, stage(frozen=parts + 1))


def test_text_trains_the_decoder_alone(model: VisionPrefixLM) -> None:
    found = settings(model, prepare_stage(model, stage(objective="text", frozen=0)))
    assert {name.split(".")[0] for name in found} == {"decoder"}


def test_a_rate_of_zero_freezes(model: VisionPrefixLM) -> None:
    found = settings(model, prepare_stage(model, stage(frozen=0, rates={"projection": 1e-3})))
    assert set(found) == {"projection.weight", "projection.bias"}
    with pytest.raises(RecipeError, match="trains nothing"):
        prepare_stage(model, stage(rates=Rates().model_dump()))


def test_a_later_stage_thaws_what_an_earlier_one_froze(model: VisionPrefixLM) -> None:
    prepare_stage(model, stage(frozen="backbone"))
    prepare_stage(model, stage(frozen=0))
    assert all(p.requires_grad for p in model.parameters())


def test_the_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 1.0), (3, 1.0), (5, 0.01)])
def test_rates_of_short_stages(steps: int, warmup: float) -> None:
    rates = [learning_rate(step, steps, warmup) for step in range(steps)]
    assert all(0 < rate <= 1 and math.isfinite(rate) for rate in rates)
    assert max(rates) == 1


def moved() -> tuple[nn.Linear, WeightAverage]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1)
        model.bias.add_(1)
    return model, average


def test_the_average_is_shown_and_then_given() -> None:
    model, average = moved()
    before, averaged = model.weight.clone(), average.weights["weight"].clone()
    with average.shown(model):
        assert torch.equal(model.weight, averaged)
    assert torch.equal(model.weight, before)
    average.settle(model)
    assert torch.equal(model.weight, averaged)


def test_some_of_the_weights_of_before_stay_in_it() -> None:
    model = nn.Linear(3, 2)
    start = model.weight.detach().clone()
    average = WeightAverage(model, 0.0, keep=0.25)
    with torch.no_grad():
        model.weight.add_(1)
    average.update(model, 0)
    with average.shown(model):
        torch.testing.assert_close(model.weight.detach(), start + 0.75)
    assert torch.equal(average.weights["weight"], model.weight)  # a decay of 0 follows


def test_the_average_follows_the_trained_weights() -> None:
    model, average = moved()
    assert set(average.weights) == {"weight"}
    start = average.weights["weight"].clone()
    average.update(model, 0)  # (0 + 1) / (0 + 10) of the old value stays
    assert torch.allclose(average.weights["weight"], start + 0.9, atol=1e-6)
    average.update(model, 10_000)  # the decay itself from here on
    assert torch.allclose(average.weights["weight"], start + 0.91, atol=1e-6)
