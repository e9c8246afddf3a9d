"""Decoded pictures and frozen features on disk."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import ViTConfig, ViTModel

from captionist import images
from captionist.data import Example
from captionist.errors import ImageError, TrainingError
from captionist.model.config import VitConfig
from captionist.model.vision import Encoder, build_encoder
from captionist.training.pictures import (
    DecodedAhead,
    DecodedByWorkers,
    normalise,
    open_features,
    open_pixels,
    pictures_key,
)
from tests.model.checkpoints import MEAN, PATCH, SIZE, STD, WIDTH, Checkpoints
from tests.pictures import patchwork, write_png
from tests.tools import small_disk

CPU = torch.device("cpu")


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    paths = [write_png(tmp_path / "Images" / f"{seed}.png", seed) for seed in range(3)]
    return [Example(path.name, path, ("a caption",), "train") for path in paths]


def features_of(encoder: Encoder, pixels: NDArray[np.uint8], cache: Path) -> NDArray[np.float16]:
    return open_features(encoder, DecodedAhead(pixels), "key", cache, CPU, bf16=False)


def test_pixels_are_the_squeezed_pictures_in_order(examples: list[Example], tmp_path: Path) -> None:
    pixels = open_pixels(examples, SIZE, tmp_path / "cache")
    assert pixels.shape == (3, SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    for seed, row in enumerate(pixels):
        assert np.array_equal(row, images.squeeze(patchwork(seed), (SIZE, SIZE)))


def test_pixels_are_decoded_once_and_again_when_a_picture_changes(examples: list[Example], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    open_pixels(examples, SIZE, cache)
    (kept,) = cache.glob("*.npy")
    made = kept.stat().st_mtime_ns
    open_pixels(examples, SIZE, cache)
    assert [file.stat().st_mtime_ns for file in cache.glob("*.npy")] == [made]
    changed = write_png(Path(str(examples[1].image)), 9)
    os.utime(changed, ns=(made + 1, made + 1))
    assert np.array_equal(open_pixels(examples, SIZE, cache)[1], images.squeeze(patchwork(9), (SIZE, SIZE)))


def test_keys_tell_pictures_apart(examples: list[Example]) -> None:
    keys = {pictures_key(examples, 32), pictures_key(examples, 48), pictures_key(examples[:2], 32)}
    assert len(keys | {pictures_key(examples[::-1], 32)}) == 4


def test_a_full_disk_is_an_error_and_leaves_nothing(examples: list[Example], tmp_path: Path) -> None:
    """Writing to mapped memory would end the whole process."""
    disk = tmp_path / "disk"
    with small_disk(disk, 64):
        with pytest.raises(TrainingError, match=r"No space left.*data\.cache"):
            open_pixels(examples, 512, disk / "cache")
        assert [path.name for path in (disk / "cache").iterdir()] == [".lock"]


def test_runs_that_share_a_cache_wait_for_each_other(checkpoints: Checkpoints, tmp_path: Path) -> None:
    encoder = build_encoder(checkpoints.vit(), None)
    pixels = np.stack([images.squeeze(patchwork(seed), (SIZE, SIZE)) for seed in range(40)])
    pictures, filled = DecodedAhead(pixels), list[int]()
    begun = threading.Barrier(3)

    def note(batch: Tensor, start: int) -> Tensor:
        filled.append(start)
        return batch

    def run() -> NDArray[np.float16]:
        begun.wait(60)
        return np.array(open_features(encoder, pictures, "key", tmp_path, CPU, bf16=False, change=note))

    with ThreadPoolExecutor(3) as threads:
        first, *others = [future.result() for future in [threads.submit(run) for _ in range(3)]]
    assert filled == [0, 32]
    assert (first != 0).any(axis=(1, 2)).all()
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("family", ["vit", "dinov2", "hybrid"])
def test_features_are_the_backbone_s(checkpoints: Checkpoints, tmp_path: Path, family: str) -> None:
    encoder = build_encoder(checkpoints.hybrid() if family == "hybrid" else checkpoints.vit(family), None).eval()
    side = encoder.grid * (32 if family == "hybrid" else PATCH)
    pixels = np.stack([images.squeeze(patchwork(seed), (side, side)) for seed in range(35)])  # more than one batch
    features = features_of(encoder, pixels, tmp_path)
    with torch.inference_mode():
        expected = encoder.backbone(normalise(torch.from_numpy(pixels), encoder)).numpy()
    assert features.dtype == np.float16
    assert np.allclose(features, expected, atol=0.02, rtol=2e-3)  # half precision


def test_features_have_no_dropout_in_them(tmp_path: Path) -> None:
    """A model between two stages stands in training mode."""
    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=SIZE,
        patch_size=PATCH,
        hidden_dropout_prob=0.5,
    )
    ViTModel(config).save_pretrained(tmp_path / "vit")
    vit = VitConfig(weights=str(tmp_path / "vit"), resolution=SIZE, mean=MEAN, std=STD)
    encoder = build_encoder(vit, None)
    pixels = np.stack([images.squeeze(patchwork(seed), (SIZE, SIZE)) for seed in range(2)])
    first, second = (features_of(encoder.train(), pixels, tmp_path / cache) for cache in ("a", "b"))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("family", ["vit", "deit", "dinov2", "registers", "hybrid"])
def test_features_are_not_reused_after_the_weights_changed(
    checkpoints: Checkpoints, tmp_path: Path, family: str
) -> None:
    """Whichever part of the backbone a stage has trained."""
    encoder = build_encoder(checkpoints.hybrid() if family == "hybrid" else checkpoints.vit(family), None).eval()
    side = encoder.grid * (32 if family == "hybrid" else PATCH)
    pixels = np.stack([images.squeeze(patchwork(seed), (side, side)) for seed in range(2)])
    neck = {id(p) for p in encoder.neck_parameters()}
    backbone = {name: p for name, p in encoder.named_parameters() if id(p) not in neck}
    features_of(encoder, pixels, tmp_path)
    features_of(encoder, pixels, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    for parameter in (next(iter(backbone.values())), list(backbone.values())[-1]):
        known = len(list(tmp_path.glob("*.npy")))
        parameter.data += 0.1
        features_of(encoder, pixels, tmp_path)
        assert len(list(tmp_path.glob("*.npy"))) == known + 1
    for neck_parameter in encoder.neck_parameters():
        neck_parameter.data += 0.1
    known = len(list(tmp_path.glob("*.npy")))
    features_of(encoder, pixels, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == known


def test_changed_pictures_are_what_the_backbone_sees(checkpoints: Checkpoints, tmp_path: Path) -> None:
    encoder = build_encoder(checkpoints.vit(), None)
    pixels = np.stack([images.squeeze(patchwork(seed), (SIZE, SIZE)) for seed in range(33)])  # more than one batch
    starts: list[int] = []

    def upside_down(batch: Tensor, start: int) -> Tensor:
        starts.append(start)
        return batch.flip(1)

    changed = open_features(encoder, DecodedAhead(pixels), "changed", tmp_path, CPU, bf16=False, change=upside_down)
    turned = open_features(
        encoder, DecodedAhead(np.ascontiguousarray(pixels[:, ::-1])), "turned", tmp_path, CPU, bf16=False
    )
    assert starts == [0, 32]
    np.testing.assert_array_equal(changed, turned)


def test_other_pictures_have_other_features(checkpoints: Checkpoints, tmp_path: Path) -> None:
    encoder = build_encoder(checkpoints.vit(), None)
    pixels = np.stack([images.squeeze(patchwork(seed), (SIZE, SIZE)) for seed in range(2)])
    first = open_features(encoder, DecodedAhead(pixels[:1]), "first", tmp_path, CPU, bf16=False)
    second = open_features(encoder, DecodedAhead(pixels[1:]), "second", tmp_path, CPU, bf16=False)
    assert not np.allclose(first, second, atol=0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_decode_the_same_pixels(examples: list[Example], tmp_path: Path, workers: int) -> None:
    wanted = [np.array([2, 0]), np.array([1]), np.array([1, 2, 0])]
    ahead = DecodedAhead(open_pixels(examples, SIZE, tmp_path / "cache"))
    state = torch.get_rng_state()
    found = list(DecodedByWorkers(examples, SIZE, workers).batches(wanted))
    assert torch.equal(torch.get_rng_state(), state)  # which dropout draws from
    for mine, theirs in zip(found, ahead.batches(wanted), strict=True):
        assert mine.dtype == np.uint8
        np.testing.assert_array_equal(mine, theirs)
    Path(str(examples[1].image)).write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"^[^\n]*/1\.png: [^\n]*$"):  # no traceback of the worker's
        list(DecodedByWorkers(examples, SIZE, workers).batches(wanted))
