"""captionist data download."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionist.commands.terminal import bar, escape, print_line
from captionist.errors import DataError

if TYPE_CHECKING:
    from captionist.data.download import Report

_INTERRUPTED = 130


class CorpusName(StrEnum):
    """A corpus of the catalogue; repeated here because importing the catalogue would make --help slow."""

    FLICKR8K = "flickr8k"
    FLICKR30K = "flickr30k"
    COCO2017 = "coco2017"


def download(
    corpus: Annotated[CorpusName, typer.Argument(metavar="CORPUS", help="The corpus to download.")],
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where to; by default a folder named after the corpus, in the current one."),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the corpus's conditions without being asked.")
    ] = False,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Download from this mirror, which replaces the scheme and host of every address."
        ),
    ] = None,
) -> None:
    """Download a corpus, check it and unpack it; prints its directory.

    Files that are already there are not downloaded again, so a run that was stopped continues where it was. For
    flickr30k, only the captions can be downloaded; the command says where to ask for the photographs.
    """
    from captionist.data.catalogue import SOURCES, through
    from captionist.data.obtain import obtain, prepare
    from captionist.data.readers import READERS

    source = SOURCES[corpus.value]
    root = directory if directory is not None else Path(corpus.value)
    try:
        through(mirror, source.archives[0].url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--mirror") from error
    if not accept_licence:
        _ask(source.licence)
    prepare(source, root)
    failures = 0
    try:
        with _progress() as report:
            for archive in source.archives:
                try:
                    obtain(archive, root, mirror=mirror, report=report)
                except DataError as error:
                    failures += 1
                    print_line(sys.stderr, escape(str(error)))
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to continue from here", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if not failures:
        typer.echo(escape(str(root)))
        if source.afterwards:
            typer.echo(source.afterwards, err=True)
        if any(reader.recognises(root) for reader in READERS.values()):
            typer.echo(f"see what it holds: captionist data inspect {escape(str(root))}", err=True)
    raise typer.Exit(1 if failures else 0)


def _ask(licence: str) -> None:
    """Show the conditions, and exit unless they are accepted: with 1 if refused, with 2 if nobody can be asked."""
    typer.echo(licence, err=True)
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter(
            "these conditions must be accepted, and there is no terminal to ask on: pass --accept-licence.",
            param_hint="--accept-licence",
        )
    if not typer.confirm("Do you accept these conditions?", err=True):
        typer.echo("not accepted; nothing was downloaded", err=True)
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator["Report"]:
    """A bar that counts bytes if standard error is a terminal, else a line for each step."""
    now = ""
    with bar(unit="B", unit_scale=True) as shown:

        def report(step: str, done: int, total: int | None) -> None:
            nonlocal now
            if step != now and shown is None:
                typer.echo(step, err=True)
            elif step != now:
                shown.reset()
                shown.set_description(step)
            now = step
            if shown is not None:
                shown.total = total
                shown.update(done - shown.n)

        yield report
