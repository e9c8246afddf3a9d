"""From a bundle back to the model: whatever the precision, training continues from what was exported."""

from pathlib import Path

import numpy as np
import pytest
import torch

from captionist.bundle import Bundle
from captionist.errors import TrainingError
from captionist.exporting.export import write_unscored
from captionist.exporting.graphs import Precision, round_to_half
from captionist.inference.encoding import Prepared
from captionist.model.config import ModelConfig
from captionist.model.fusion import VisionPrefixLM
from captionist.model.restore import load_bundle
from captionist.training.recipe import DataConfig, Recipe
from captionist.training.stage import Rates, Stage
from tests.model.checkpoints import CAPTIONS, Checkpoints

ALIGNMENT = 12
LOST = "encoder.positions"  # a hybrid's graph holds only the means over the pooled places


def write_bundle(model: VisionPrefixLM, folder: Path, precision: Precision) -> Bundle:
    recipe = Recipe(
        name="tiny",
        data=DataConfig(root=folder),
        model=model.config,
        stages=(Stage(name="only", epochs=1, batch_size=1, rates=Rates(decoder=1e-3)),),
    )
    side = model.config.encoder.resolution
    pixels = np.random.default_rng(0).uniform(-1, 1, (4, 3, side, side)).astype(np.float32)
    write_unscored(model, recipe, folder, "tiny", precision, [Prepared(picture, None) for picture in pixels])
    return Bundle.open(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "family", "aligned"),
    [("fp32", "vit", False), ("fp16", "dinov2", True), ("int8", "deit", False), ("int8", "hybrid", True)],
)
def test_a_bundle_gives_back_the_weights(
    checkpoints: Checkpoints, tmp_path: Path, precision: Precision, family: str, aligned: bool
) -> None:
    hybrid = family == "hybrid"
    model = checkpoints.model(checkpoints.hybrid() if hybrid else checkpoints.vit(family), 1 if hybrid else None)
    if aligned:
        model.align(ALIGNMENT)
    for parameter in model.parameters():  # no two alike, as after training: the graphs hold equal ones only once
        parameter.data += 0.01 * torch.randn_like(parameter)
    model.cut_vocabulary(list(CAPTIONS))
    if precision != "fp32":
        round_to_half(model)
    restored = load_bundle(write_bundle(model, tmp_path, precision), model.config)
    assert restored.tokenizer.to_str() == model.tokenizer.to_str()
    assert (restored.end_id, restored.decoder.config.vocab_size) == (model.end_id, len(model.decoder.wte.weight))
    theirs, ours = restored.state_dict(), model.state_dict()
    assert theirs.keys() == ours.keys()
    if hybrid:
        for state, made in ((theirs, restored), (ours, model)):
            state[LOST] = made.pooling @ state[LOST]
    for name, weights in ours.items():
        error, largest = (theirs[name] - weights).abs().max(), weights.abs().max()
        assert error <= (1e-6 if precision == "fp32" else 1e-3 if precision == "fp16" else 0.01) * largest, name


@pytest.mark.slow
def test_what_the_exporter_looked_up_for_good_cannot_be_read_back(checkpoints: Checkpoints, tmp_path: Path) -> None:
    model = checkpoints.model(checkpoints.vit("clip"))
    with pytest.raises(TrainingError, match="cannot be trained further: encoder"):
        load_bundle(write_bundle(model, tmp_path, "fp32"), model.config)


@pytest.mark.slow
def test_another_model_is_told_from_the_recipes(checkpoints: Checkpoints, tmp_path: Path) -> None:
    bundle = write_bundle(checkpoints.model(), tmp_path, "fp32")
    wrong: ModelConfig = checkpoints.config(checkpoints.hybrid(), 1)
    with pytest.raises(TrainingError, match="another model"):
        load_bundle(bundle, wrong)
    assert torch.equal(
        load_bundle(bundle, checkpoints.config(checkpoints.vit())).projection.weight,
        checkpoints.model().projection.weight,
    )
