"""captionist model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionist.commands.terminal import needs_extra
from captionist.commands.training import Precision

if TYPE_CHECKING:
    from captionist.bundle import Bundle

app = typer.Typer(no_args_is_help=True, help="Inspect, import and calibrate models.")

ModelArgument = Annotated[
    str | None, typer.Argument(metavar="BUNDLE", help="A directory or a name; by default the embedded model.")
]


@app.command("list")
def list_models() -> None:
    """List the models inside the package: name, version, precision, megabytes, directory."""
    from captionist.bundle import list_bundles

    bundles = list_bundles()
    for bundle in bundles:
        config = bundle.config
        typer.echo("\t".join([config.name, config.version, config.precision, _megabytes(bundle), str(bundle.path)]))
    if not bundles:
        typer.echo("the package holds no model: train and export one, and pass its directory as --model", err=True)


@app.command()
def show(model: ModelArgument = None) -> None:
    """Show a model's settings and scores as JSON, then its model card."""
    import json

    from captionist.bundle import Bundle

    bundle = Bundle.open(model)
    facts = bundle.config.model_dump(mode="json") | {"scores": bundle.scores}
    typer.echo(f"{bundle.path} ({_megabytes(bundle)})\n{json.dumps(facts, indent=2)}\n\n{bundle.model_card.rstrip()}")


@app.command()
def verify(model: ModelArgument = None) -> None:
    """Check every file of a model against its checksum."""
    from captionist.bundle import Bundle

    bundle = Bundle.open(model)
    typer.echo(f"{bundle.path}: all {bundle.verify()} files match their checksums")


@app.command("import")
def import_model(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A name on the Hugging Face hub, or a directory with its files.")
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The directory to write.")],
    precision: Annotated[
        Precision, typer.Option(help="int8 is smallest and fastest; fp16 halves the bundle and computes as fp32.")
    ] = (Precision.INT8),
) -> None:
    """Turn a public checkpoint of GIT, BLIP or a vision encoder with GPT-2 into a bundle that runs without PyTorch."""
    from captionist.bundle import Bundle

    with needs_extra("train"):
        from captionist.exporting.public.bring import import_model as bring

    made: Bundle = bring(source, bundle, precision.value)
    licence = made.config.source and made.config.source.licence
    typer.echo(f"{made.path} ({_megabytes(made)}); its licence: {licence or 'not stated in its card'}")


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(metavar="BUNDLE", help="A directory; its config.json is rewritten.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="A corpus whose pictures have several captions each.")],
    split: Annotated[str, typer.Option(help="A split that the model was not trained on.")] = "dev",
) -> None:
    """Calibrate a model's confidence on a corpus, to be the chance that people would accept its caption.

    Half of the pictures calibrate it; the other half shows how well that worked.
    """
    from captionist.bundle import Bundle

    with needs_extra("train"):
        from captionist.data import open_corpus
        from captionist.evaluation.calibrated import calibrate_model

    found = calibrate_model(Bundle.open(model), open_corpus(data).split(split))
    typer.echo(
        found.line()
        if found
        else "calibrated; all captions of the other half are alike, so it cannot show how well that worked"
    )


def _megabytes(bundle: "Bundle") -> str:
    return f"{bundle.size / 1e6:.1f} MB"
