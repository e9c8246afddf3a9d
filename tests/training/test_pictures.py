"""Decoded pictures and frozen features on disk."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captionist import images
from captionist.data import Example
from captionist.errors import ImageError, TrainingError
from captionist.model.vision import Encoder, build_encoder
from captionist.training.augment import AUGMENT_DRAWS, augment
from captionist.training.batches import uniform_draws
from captionist.training.cache import pictures_key
from captionist.training.frozen import FrozenBackbone
from captionist.training.pictures import TOGETHER, PictureSet, normalise
from captionist.training.recipe import DataConfig
from tests.model.checkpoints import SIZE, Checkpoints
from tests.pictures import patchwork, write_png
from tests.tools import small_disk

COUNT = TOGETHER + 1  # more than one batch


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    paths = [write_png(tmp_path / "Images" / f"{seed}.png", seed) for seed in range(COUNT)]
    return [Example(path.name, path, ("a caption",), "train") for path in paths]


def pictures_of(examples: list[Example], cache: Path, side: int = SIZE, **how: Any) -> PictureSet:
    return PictureSet(examples, side, DataConfig(root=Path("none"), cache=cache, **how))


def read(pictures: PictureSet) -> NDArray[np.uint8]:
    return np.concatenate(list(pictures.batches(pictures.ranges())))


def features_of(encoder: Encoder, pictures: PictureSet, cache: Path, view: int = 0) -> NDArray[np.float16]:
    return FrozenBackbone(encoder, cache, 7, torch.device("cpu"), False).features(pictures, view)


def encoder_of(checkpoints: Checkpoints, family: str) -> Encoder:
    return build_encoder(checkpoints.hybrid() if family == "hybrid" else checkpoints.vit(family), None)


def test_they_are_squeezed_once_and_again_when_one_changes(examples: list[Example], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pixels = read(pictures_of(examples, cache))
    for seed, row in enumerate(pixels):
        assert np.array_equal(row, images.squeeze(patchwork(seed), (SIZE, SIZE)))
    (kept,) = cache.glob("*.npy")
    made = kept.stat().st_mtime_ns
    assert np.array_equal(read(pictures_of(examples, cache)), pixels)
    assert [file.stat().st_mtime_ns for file in cache.glob("*.npy")] == [made]
    changed = write_png(Path(str(examples[1].image)), 99)
    os.utime(changed, ns=(made + 1, made + 1))
    assert np.array_equal(read(pictures_of(examples, cache))[1], images.squeeze(patchwork(99), (SIZE, SIZE)))


def test_keys_tell_pictures_apart(examples: list[Example]) -> None:
    keys = {pictures_key(examples, 32), pictures_key(examples, 48), pictures_key(examples[:2], 32)}
    assert len(keys | {pictures_key(examples[::-1], 32)}) == 4


def test_a_full_disk_is_an_error_and_leaves_nothing(examples: list[Example], tmp_path: Path) -> None:
    """Writing to mapped memory would end the whole process."""
    disk = tmp_path / "disk"
    with small_disk(disk, 64):
        with pytest.raises(TrainingError, match=r"No space left.*data\.cache"):
            read(pictures_of(examples, disk / "cache"))
        assert [path.name for path in (disk / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_decode_the_same_pixels(examples: list[Example], tmp_path: Path, workers: int) -> None:
    wanted = [np.array([2, 0]), np.array([1]), np.array([1, 2, 0])]
    ahead = pictures_of(examples[:3], tmp_path / "cache", decode="ahead")
    by_workers = pictures_of(examples[:3], tmp_path / "cache", decode="workers", workers=workers)
    state = torch.get_rng_state()
    found = list(by_workers.batches(wanted))
    assert torch.equal(torch.get_rng_state(), state)  # which dropout draws from
    for mine, theirs in zip(found, ahead.batches(wanted), strict=True):
        assert mine.dtype == np.uint8
        np.testing.assert_array_equal(mine, theirs)
    Path(str(examples[1].image)).write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"^[^\n]*/1\.png: [^\n]*$"):  # no traceback of the worker's
        list(by_workers.batches(wanted))


def test_runs_that_share_a_cache_wait_for_each_other(
    checkpoints: Checkpoints, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, filled, begun = encoder_of(checkpoints, "vit"), list[int](), threading.Barrier(3)
    backbone = encoder.backbone

    def note(pixels: Tensor) -> Tensor:
        filled.append(len(pixels))
        return backbone(pixels)

    monkeypatch.setattr(encoder, "backbone", note)

    def run(_: int) -> NDArray[np.float16]:
        begun.wait(60)
        return np.array(features_of(encoder, pictures_of(examples, tmp_path), tmp_path))

    with ThreadPoolExecutor(3) as threads:
        first, *others = threads.map(run, range(3))
    assert filled == [TOGETHER, 1]
    assert (first != 0).any(axis=(1, 2)).all()
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("family", ["vit", "hybrid"])
@pytest.mark.parametrize("view", [0, 1])
def test_features_are_the_backbone_s(
    checkpoints: Checkpoints, examples: list[Example], tmp_path: Path, family: str, view: int
) -> None:
    """Without dropout, although a model between two stages stands in training mode."""
    encoder = encoder_of(checkpoints, family).train()
    for dropout in (module for module in encoder.modules() if isinstance(module, nn.Dropout)):
        dropout.p = 0.5
    pictures = pictures_of(examples, tmp_path, encoder.grid * (32 if family == "hybrid" else 8))
    features = features_of(encoder, pictures, tmp_path, view)
    shown = torch.from_numpy(read(pictures))
    if view:
        draws = [uniform_draws((7, view, int(part[0])), len(part), AUGMENT_DRAWS) for part in pictures.ranges()]
        shown = augment(shown, pictures.flippable, torch.cat(draws))
    with torch.inference_mode():
        expected = encoder.eval().backbone(normalise(shown, encoder)).numpy()
    assert features.dtype == np.float16
    assert np.allclose(features, expected, atol=0.02, rtol=2e-3)  # half precision


@pytest.mark.parametrize("family", ["vit", "registers", "clip", "hybrid"])
def test_features_are_not_reused_after_the_weights_changed(
    checkpoints: Checkpoints, examples: list[Example], tmp_path: Path, family: str
) -> None:
    """Whichever part of the backbone a stage has trained; the neck is no part of it."""
    encoder = encoder_of(checkpoints, family)
    pictures = pictures_of(examples[:2], tmp_path, encoder.grid * (32 if family == "hybrid" else 8))

    def kept() -> int:
        features_of(encoder, pictures, tmp_path)
        return len(list(tmp_path.glob("features-*.npy")))

    assert [kept(), kept()] == [1, 1]
    backbone = [p for module in encoder.backbone_modules() for p in module.parameters()]
    for known, parameter in enumerate((backbone[0], backbone[-1]), start=2):
        parameter.data += 0.1
        assert kept() == known
    for parameter in encoder.neck_parameters():
        parameter.data += 0.1
    assert kept() == 3
