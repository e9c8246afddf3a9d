"""Training to compare pictures with sentences: alone, beside captioning, and on smaller pictures."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from captionist.model.fusion import load_model
from captionist.model.language import IGNORE
from captionist.model.vision import HybridEncoder
from captionist.training.objectives import Examples, Objective
from captionist.training.objectives.caption import Captioning
from captionist.training.objectives.contrastive import Contrast
from captionist.training.objectives.objective import Loss
from captionist.training.train import train
from tests.model.checkpoints import Checkpoints
from tests.training.runs import frozen, heads, read_csv, whole, write_recipe


def epochs(run: Path) -> list[dict[str, str]]:
    return read_csv(run / "epochs.csv")


def test_pictures_and_their_sentences_find_each_other(overfitted: Path) -> None:
    """The dev pictures are the train pictures, and colour and shape tell all sixteen apart."""
    found = epochs(overfitted)
    before, after = found[-20], found[-1]
    for name in ("image_to_text_1", "text_to_image_1"):
        assert float(before[name]) < 90 < float(after[name])
    assert found[0]["image_to_text_1"] == ""  # nothing to tell of the stage before


def test_heads_alone_leave_the_model_as_it_is(overfitted: Path) -> None:
    best, last = (load_model(overfitted / name).state_dict() for name in ("best", "last"))
    assert {epoch["cider"] for epoch in epochs(overfitted)[-20:]} == {epochs(overfitted)[-1]["cider"]}
    for name, weight in last.items():  # so the best is kept with the newest heads
        assert torch.equal(best[name], weight)


def test_a_model_without_an_alignment_can_be_given_one(checkpoints: Checkpoints, tmp_path: Path) -> None:
    plain = write_recipe(tmp_path, checkpoints, [frozen(batch_size=16)])
    start = train(plain, [], runs=tmp_path / "runs") / "last"
    recipe = write_recipe(tmp_path, checkpoints, [heads(epochs=1)], alignment=8, start=str(start))
    model = load_model(train(recipe, [], runs=tmp_path / "more") / "last")
    assert model.alignment is not None
    assert torch.equal(model.projection.weight, load_model(start).projection.weight)


def test_beside_captioning_the_losses_add_up(checkpoints: Checkpoints) -> None:
    model = checkpoints.model()
    model.align(8)
    captions = torch.tensor([[[5, 6, 7], [8, 9, IGNORE]], [[6, 4, IGNORE], [7, 7, 3]]])
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def loss(*losses: Loss) -> float:
        with torch.inference_mode():
            return float(model(Objective(losses=losses), (Examples(captions, pixels=pixels),)))

    both = loss(Captioning(), Contrast(0.5))
    assert both == pytest.approx(loss(Captioning()) + loss(Contrast(0.5)), abs=1e-4)
    assert loss(Contrast(0.5)) > 0.1


def test_a_run_beside_captioning(checkpoints: Checkpoints, tmp_path: Path) -> None:
    rates = {"encoder": 1e-3, "projection": 3e-3, "decoder": 3e-3, "alignment": 3e-3}
    recipe = write_recipe(
        tmp_path, checkpoints, [whole(contrastive=0.5, naming=0.2, augment=True, rates=rates)], alignment=8
    )
    run = train(recipe, [], runs=tmp_path / "runs")
    assert float(epochs(run)[-1]["text_to_image_10"]) > 0


def test_smaller_pictures_train_a_hybrid(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: dict[bool, set[int]] = {True: set(), False: set()}  # of pictures in training, and in validation
    backbone = HybridEncoder.backbone

    def spy(encoder: HybridEncoder, pixels: Tensor) -> Tensor:
        sides[encoder.training].add(pixels.shape[2])
        return backbone(encoder, pixels)

    monkeypatch.setattr(HybridEncoder, "backbone", spy)
    encoder = checkpoints.hybrid(resolution=96).model_dump(mode="json")
    stage = heads(frozen=20, epochs=1, resolution=64, layer_decay=0.5, rates={"encoder": 1e-3, "alignment": 1e-3})
    recipe = write_recipe(tmp_path, checkpoints, [stage], alignment=8)
    train(recipe, [f"model.encoder={encoder}"], runs=tmp_path / "runs")
    assert sides == {True: {64}, False: {64, 96}}  # the image head's inputs are measured on pictures as they train
