"""captionist model."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from captionist.bundle import Bundle

app = typer.Typer(no_args_is_help=True, help="Look at models.")

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


def _megabytes(bundle: "Bundle") -> str:
    return f"{bundle.size / 1e6:.1f} MB"
