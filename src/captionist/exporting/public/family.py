"""What a family of checkpoints must bring to become a bundle."""

from dataclasses import dataclass

from torch import Tensor, nn

from captionist.exporting.public.decoder import Decoder


@dataclass(frozen=True)
class Model:
    """A checkpoint, taken apart for the graphs.

    encoder: pixels float [B, 3, H, W] -> visual tokens float [B, P, W]. cell: (height, width) in pixels of a cell of
    the grid. eos: the id of the token that ends a caption. positions: how many tokens the decoder can read, including
    the begin token.
    """

    encoder: nn.Module
    decoder: Decoder
    image: tuple[int, int]
    cell: tuple[int, int]
    eos: int
    positions: int


class Tower(nn.Module):
    """An encoder of transformers, with a projection to the decoder's width if it needs one."""

    def __init__(self, tower: nn.Module, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection or nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.projection(self.tower(pixels).last_hidden_state)
        return tokens


def pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """(height, width); configurations give one number where both are the same."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def one_id(what: str, value: object) -> int:
    """A token's id, given alone or as a list of one. Raises ValueError for none, several, or anything else."""
    value = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"its {what} is {value!r}, but should be one token's id")
    return value
