"""Changes to a training picture that leave its captions true."""

import re
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_SMALLEST_CROP = 0.45  # of the area; smaller crops cut off what captions mention
_JITTER = 0.3  # of contrast, brightness and saturation; not of hue, since captions name colours
_LARGEST_HOLE = 0.45  # of a side
AUGMENT_DRAWS = 13
"""How many uniform numbers `augment` takes for a picture."""


def may_flip(captions: tuple[str, ...]) -> bool:
    """Whether a mirrored picture keeps every caption true: none says left or right."""
    return not any(_SIDES.search(caption) for caption in captions)


def augment(pixels: Tensor, flippable: Tensor, draws: Tensor) -> Tensor:
    """Random crop, flip, brightness, contrast and saturation, and a grey hole in half of the pictures.

    The hole is random erasing (Zhong et al. 2020).

    Args: pixels uint8 [B, H, W, 3]; flippable bool [B]; draws float [B, AUGMENT_DRAWS] on the CPU, uniform from 0 to 1:
    what happens to a picture depends only on its own.
    Returns uint8 of the same shape.
    """
    batch, device = pixels.shape[0], pixels.device
    columns: Iterator[Tensor] = iter(draws.unbind(1))

    def uniform(low: float, high: float) -> Tensor:
        return next(columns) * (high - low) + low

    area, ratio = uniform(_SMALLEST_CROP, 1), torch.exp(uniform(-0.2, 0.2))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = torch.where((uniform(0, 1) < 0.5) & flippable.cpu(), -1.0, 1.0)
    zero = torch.zeros(batch)
    left, top = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    theta = torch.stack((torch.stack((width * flip, zero, left), 1), torch.stack((zero, height, top), 1)), 1)
    image = pixels.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta.to(device), list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
    contrast, brightness, saturation = (
        uniform(1 - _JITTER, 1 + _JITTER).view(-1, 1, 1, 1).to(device) for _ in range(3)
    )
    grey = image.mean(1, keepdim=True)
    image = (image - grey) * saturation + grey
    mean = image.mean((1, 2, 3), keepdim=True)
    image = ((image - mean) * contrast + mean) * brightness
    hole = _hole(uniform, image.shape[2])[:, :, None] & _hole(uniform, image.shape[3])[:, None]
    hole &= (uniform(0, 1) < 0.5)[:, None, None]
    image = torch.where(hole[:, None].to(device), mean, image)
    return image.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _hole(uniform: Callable[[float, float], Tensor], side: int) -> Tensor:
    """Where, along one side, each picture's hole is: bool [B, side]."""
    width, middle, places = uniform(0, _LARGEST_HOLE), uniform(0, 1), torch.linspace(0, 1, side)
    return (places - middle[:, None]).abs() < width[:, None] / 2
