"""captionist serve."""

from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from captionist.commands.limits import MaxBytesOption, MaxPixelsOption
from captionist.commands.terminal import needs_extra
from captionist.errors import MissingExtraError

_INDENT = " " * 6


class ServeCommand(TyperCommand):
    """Adds the settings to --help; they are read only then, since their library is slow to import."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        typer.echo("Settings: environment variables [default], or keys of captionist.toml\nwithout the prefix:")
        try:
            with needs_extra("serve"):
                from captionist.server.settings import describe
        except MissingExtraError as error:
            typer.echo(f"  {error}")
            return
        for name, default, meaning in describe():
            typer.echo(f"  {name}{f' [{default}]' if default else ''}")
            typer.echo(fill(meaning, get_terminal_size().columns, initial_indent=_INDENT, subsequent_indent=_INDENT))


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to listen on; 127.0.0.1 if not set.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Port to listen on; 8000 if not set.")] = None,
    max_bytes: MaxBytesOption = None,
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Serve captions over HTTP, with a page to use them and a store for feedback.

    On SIGTERM or Ctrl-C, the service finishes the requests that it accepted, then stops.
    """
    with needs_extra("serve"):
        from captionist.server.run import serve as run
        from captionist.server.settings import load_settings

    given = {"host": host, "port": port, "max_picture_bytes": max_bytes, "max_picture_pixels": max_pixels}
    run(load_settings(**{name: value for name, value in given.items() if value is not None}))
