"""Options that say what a picture may cost."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from captionist.images import ImageLimits

MaxBytesOption = Annotated[
    int | None,
    typer.Option("--max-bytes", min=1000, metavar="N", help="Largest picture file; 20,000,000 bytes if not set."),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1000, metavar="N", help="Largest picture; 50,000,000 pixels if not set."),
]


def image_limits(max_bytes: int | None, max_pixels: int | None) -> "ImageLimits":
    """The limits that the options ask for; those not given are the library's own."""
    from captionist.images import ImageLimits

    usual = ImageLimits()
    return ImageLimits(max_bytes or usual.max_bytes, max_pixels or usual.max_pixels)
