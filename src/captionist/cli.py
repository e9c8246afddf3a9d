"""The `captionist` command: parse, delegate, print. Heavy imports are inside the commands, so that --help is quick."""

import inspect
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from captionist.commands import corpora, models
from captionist.commands.alt import alt
from captionist.commands.caption import caption
from captionist.commands.compare import compare
from captionist.commands.scores import evaluate, score
from captionist.commands.search import index, match, search
from captionist.commands.serve import ServeCommand, serve
from captionist.commands.terminal import SPELT_OUT, escape
from captionist.commands.training import export, train
from captionist.errors import CaptionistError, SettingsError

_WRONG_USAGE = 2

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all good, 1 some inputs failed (the rest were done), 2 wrong usage, 130 interrupted.",
)
for command in (caption, alt, match, index, search, evaluate, score, compare, train, export):
    app.command()(command)
app.command(cls=ServeCommand)(serve)
app.add_typer(corpora.app, name="data")
app.add_typer(models.app, name="model")
for group in (app, corpora.app, models.app):
    for registered in group.registered_commands:
        # Typer would keep a docstring's line breaks at every width, so each paragraph becomes one line.
        paragraphs = (inspect.getdoc(registered.callback) or "").split("\n\n")
        registered.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _print_version(wanted: bool) -> None:
    if wanted:
        import captionist

        typer.echo(f"captionist {captionist.__version__}")
        raise typer.Exit


@app.callback()
def _captionist(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Describe photographs in one English sentence, offline."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its exit code (SystemExit); arguments are the process's by default."""
    if sys.stderr is None:  # started with the descriptor closed: the next file opened would get it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", errors="backslashreplace")  # noqa: SIM115
    if sys.stdout is None:
        _give_up("standard output is closed: send it to a file, or to /dev/null")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors=SPELT_OUT)
    try:
        app(args=arguments, prog_name="captionist")
    except SettingsError as error:
        _give_up(str(error), _WRONG_USAGE)
    except CaptionistError as error:
        _give_up(str(error))
    except OSError as error:
        if error.filename is not None:  # not one of the standard streams
            _give_up(
                f"{error.filename}: {error.strerror}: check the path, its permissions and the free space on its disk"
            )
        # Otherwise what is still buffered would fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _give_up(f"the output cannot be written ({error.strerror}): send it elsewhere, or free some space")


def _give_up(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"captionist: {escape(message)}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
