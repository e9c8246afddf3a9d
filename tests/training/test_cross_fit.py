"""Train pictures seen through stems that have not been trained on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionist.errors import RecipeError
from captionist.model.fusion import load_model
from captionist.model.stem import EfficientNetLite2
from captionist.model.vision import HybridEncoder
from captionist.training import loop, pictures
from captionist.training.cross_fit import PiecedFeatures, load_stems, save_stem
from captionist.training.recipe import load_recipe
from captionist.training.run import train
from tests.model.checkpoints import Checkpoints
from tests.training.corpus import write_corpus
from tests.training.runs import frozen, whole, write_recipe


def stem_weights(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return EfficientNetLite2().state_dict()


@pytest.fixture
def stems(tmp_path: Path) -> list[Path]:
    """Two stems, of which one has not seen the first ten pictures and the other the rest, and two of the first."""
    write_corpus(tmp_path / "corpus")
    ids = (tmp_path / "corpus" / "Flickr_8k.trainImages.txt").read_text().split()
    paths = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    save_stem(paths[0], stem_weights(0), ids[:10])
    save_stem(paths[1], stem_weights(1), ids[8:])
    return paths


def recipe(folder: Path, checkpoints: Checkpoints, stems: list[Path], **changes: object) -> Path:
    written = write_recipe(folder, checkpoints, [frozen(**changes)], cross_fit=[str(path) for path in stems])
    text = written.read_text(encoding="utf-8")
    start, _, rest = text.partition("  encoder:\n")
    encoder = checkpoints.hybrid(resolution=96).model_dump(mode="json")
    written.write_text(f"{start}  encoder: {encoder}\n  decoder:{rest.partition('  decoder:')[2]}", encoding="utf-8")
    return written


@pytest.mark.parametrize("augment", [False, True])
def test_each_picture_is_seen_by_a_stem_that_does_not_know_it(
    stems: list[Path], checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: bool
) -> None:
    seen: list[tuple[Any, int]] = []  # the first weight of the stem, and how many pictures
    real = pictures.open_features

    def spy(encoder: HybridEncoder, pixels: NDArray[np.uint8], *rest: Any) -> NDArray[np.float16]:
        seen.append((float(encoder.stem.head.weight.detach().flatten()[0]), len(pixels)))
        return real(encoder, pixels, *rest)

    monkeypatch.setattr(loop, "open_features", spy)
    run = train(recipe(tmp_path, checkpoints, stems, augment=augment, views=1), [], runs=tmp_path / "runs")
    weights = [float(stem.weights["head.weight"].flatten()[0]) for stem in load_stems(stems)]
    mean = sum(weights) / 2
    train_views = [(weights[0], 10), (weights[1], 6)] * (1 + augment)
    assert seen == [(pytest.approx(weight), count) for weight, count in (*train_views, (mean, 16))]
    model = load_model(run / "best")
    assert isinstance(model.encoder, HybridEncoder)
    assert float(model.encoder.stem.head.weight.detach().flatten()[0]) == pytest.approx(mean)


def test_a_row_is_read_from_its_piece() -> None:
    pieces = [np.full((2, 1, 1), 1, np.float16), np.full((1, 1, 1), 2, np.float16)]
    pieces[0][1] = 3
    features = PiecedFeatures(np.array([0, 1, 0]), pieces)
    assert [float(features[picture][0, 0]) for picture in range(3)] == [1, 2, 3]


def test_a_picture_that_every_stem_knows_is_an_error(
    stems: list[Path], checkpoints: Checkpoints, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="every stem has been trained on"):
        train(recipe(tmp_path, checkpoints, stems[:1]), [], runs=tmp_path / "runs")


@pytest.mark.usefixtures("stems")
def test_what_is_no_stem_is_an_error(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for content in (None, b"", b"no stem"):
        if content is not None:
            (tmp_path / "other").write_bytes(content)
        with pytest.raises(RecipeError, match="other is no stem"):
            load_stems([tmp_path / "other"])
    save_stem(tmp_path / "other", {"head": torch.zeros(1)}, ["a"])
    with pytest.raises(RecipeError, match="no weights of EfficientNet-Lite2"):
        train(recipe(tmp_path, checkpoints, [tmp_path / "other"]), [], runs=tmp_path / "runs")


def test_it_needs_a_frozen_hybrid(stems: list[Path], checkpoints: Checkpoints, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cross_fit needs a hybrid encoder whose backbone is frozen"):
        load_recipe(write_recipe(tmp_path, checkpoints, [whole()], cross_fit=[str(stems[0])]))
