"""captionist train, captionist export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from captionist.commands.terminal import needs_extra


class Precision(StrEnum):
    """The precision of an exported model's weights."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file, such as those in recipes/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="Settings that override the recipe's.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue a run that was stopped.")] = None,
) -> None:
    """Train a model from a recipe; prints the run directory. Under accelerate launch or torchrun it uses many GPUs."""
    with needs_extra("train"):
        from captionist.training.train import train as run

    typer.echo(run(recipe, overrides or [], resume))


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory of captionist train.")],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The directory to write.")],
    precision: Annotated[
        Precision, typer.Option(help="fp16 halves the bundle and computes as fp32; int8 is smallest and fastest.")
    ] = (Precision.FP16),
) -> None:
    """Turn a trained model into a bundle that runs without PyTorch."""
    with needs_extra("train"):
        from captionist.exporting.export import export as write_bundle

    write_bundle(run, bundle, precision.value)
