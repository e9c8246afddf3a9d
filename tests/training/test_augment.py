"""Augmentation may change a picture, but never make its captions false."""

import numpy as np
import pytest
import torch
from torch import Tensor

from captionist.training.augment import AUGMENT_DRAWS, augment, may_flip
from captionist.training.batches import uniform_draws


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (("a dog runs .", "a dog ."), True),
        (("a dog runs .", "a dog on the left ."), False),
        (("Right of the house stands a man .",), False),
        (("the left-hand player jumps",), False),
        (("he turns LEFT",), False),
        (("a bright leftover",), True),
        ((), True),
    ],
)
def test_what_may_be_flipped(captions: tuple[str, ...], expected: bool) -> None:
    assert may_flip(captions) is expected


def draws(count: int, seed: int = 0) -> Tensor:
    return uniform_draws((seed,), count, AUGMENT_DRAWS)


def halves(count: int) -> Tensor:
    """uint8 [count, 16, 24, 3]: the left half is dark, the right one bright."""
    pixels = torch.full((count, 16, 24, 3), 40, dtype=torch.uint8)
    pixels[:, :, 12:] = 200
    return pixels


def mirrored(pixels: Tensor) -> Tensor:
    """bool [B]: the first column is brighter than the last."""
    values = pixels.float()
    return values[:, :, 0].mean((1, 2)) > values[:, :, -1].mean((1, 2))


def test_only_flippable_pictures_are_mirrored() -> None:
    flippable = torch.arange(600) % 2 == 0
    changed = augment(halves(600), flippable, draws(600))
    turned = mirrored(changed)
    assert not turned[~flippable].any()
    assert 100 < int(turned[flippable].sum()) < 200


def test_shape_and_type_stay_and_the_input_too() -> None:
    pixels = halves(5)
    changed = augment(pixels, torch.ones(5, dtype=torch.bool), draws(5))
    assert changed.shape == pixels.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(pixels, halves(5))
    assert len({row.numpy().tobytes() for row in changed}) == 5  # each picture by its own draw


def test_a_pictures_own_draws_alone_decide() -> None:
    """Neither the pictures beside it, which differ in every process, nor torch's own generator."""
    flippable = torch.ones(8, dtype=torch.bool)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8))
    torch.manual_seed(1)
    together = augment(noise, flippable, draws(8))
    torch.manual_seed(2)
    halves = [augment(noise[half::2], flippable[half::2], draws(8)[half::2]) for half in (0, 1)]
    assert torch.equal(together, torch.stack(halves, 1).flatten(0, 1))
    assert not torch.equal(together, augment(noise, flippable, draws(8, seed=1)))


def test_most_of_the_picture_stays() -> None:
    """A crop keeps the middle: a bright square there, a ninth of the picture, is in every result except in holes."""
    pixels = torch.zeros(200, 24, 24, 3, dtype=torch.uint8)
    pixels[:, 8:16, 8:16] = 250
    changed = augment(pixels, torch.ones(200, dtype=torch.bool), draws(200))
    share = (changed.float().amax(3) > 100).float().mean((1, 2))
    assert float(share.median()) > 1 / 9
    assert float(share.max()) < 3 / 9  # a crop of 0.45, and its edges


def test_half_of_the_pictures_have_a_small_grey_hole() -> None:
    red = torch.tensor([200, 20, 20], dtype=torch.uint8).expand(400, 32, 32, 3)
    changed = augment(red, torch.ones(400, dtype=torch.bool), draws(400)).float()
    hole = (changed[..., 0] == changed[..., 1]).float().mean((1, 2))
    assert 140 < int((hole > 0).sum()) < 220
    assert float(hole.max()) <= 0.25
    coloured = changed[hole == 0]
    assert bool((coloured[..., 0] > 2 * coloured[..., 1]).all())  # less or more red, but red
    assert coloured[:, 0, 0, 0].std() > 5
