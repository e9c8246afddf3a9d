"""Options for the limits on a picture, and for the hardware to compute on."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from captionist.captioner import Captioner
    from captionist.images import ImageLimits

MaxBytesOption = Annotated[
    int | None,
    typer.Option("--max-bytes", min=1000, metavar="N", help="Largest picture file; 20,000,000 bytes if not set."),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1000, metavar="N", help="Largest picture; 50,000,000 pixels if not set."),
]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="What ONNX Runtime computes on instead of the CPU: cuda, openvino, coreml, directml or another. Repeat "
        "the option to name several, in order of preference.",
    ),
]


def open_captioner(model: str | None, limits: "ImageLimits", providers: list[str] | None = None) -> "Captioner":
    """A captioner with these options. Raises BadParameter for an unknown provider."""
    from captionist.captioner import Captioner

    try:
        return Captioner(model, limits=limits, providers=providers or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def image_limits(max_bytes: int | None, max_pixels: int | None) -> "ImageLimits":
    """The limits from these options; those not given are the library's own."""
    from captionist.images import ImageLimits

    usual = ImageLimits()
    return ImageLimits(max_bytes or usual.max_bytes, max_pixels or usual.max_pixels)
