"""What the commands share: lines, progress, missing extras, files to write, options."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TextIO

import typer

from captionist.errors import CaptionistError, ImageNotFoundError, MissingExtraError

ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="BUNDLE", help="A bundle's directory, or the name of a model inside the package."),
]
BeamsOption = Annotated[
    int | None,
    typer.Option("--num-beams", min=1, metavar="N", help="Hypotheses kept in the search; 1 is greedy and fastest."),
]
RetrievedOption = Annotated[
    int | None,
    typer.Option("--retrieved", min=0, metavar="N", help="Sentences of other pictures that may win; 0 is none."),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="flickr8k, flickr30k, coco, imagefolder, webdataset, or auto: by the files that are there.",
    ),
]

# A tab or a line break in a file name would look like the end of a field or of a record, and an escape sequence would
# be obeyed by the terminal.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES |= str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def escape(text: str) -> str:
    """Text for one line, its control characters written out."""
    return text.translate(_ESCAPES)


def print_error(name: str, message: str, as_json: bool) -> None:
    """What is wrong with one input of many, on standard error; as JSON among the results."""
    if as_json:
        print_json(path=name, error=message)
    else:
        print_line(sys.stderr, escape(f"{name or repr(name)}: {message}"))


def print_json(**fields: object) -> None:
    """An object on a line, pure ASCII, which is valid JSON in any locale and for file names that are not UTF-8."""
    print_line(sys.stdout, json.dumps(fields))


def print_line(stream: TextIO, line: str) -> None:
    """Write a line and let go of it, so that what a stopped run printed is whole. typer.echo would write past the
    progress bar, which stands in for the streams while it is drawn."""
    stream.write(f"{line}\n")
    stream.flush()


def read_stdin() -> bytes:
    """A picture piped in. Raises ImageNotFoundError."""
    from captionist.images import ImageLimits

    if sys.stdin is None:  # Python's way to say that it was started with the descriptor closed
        raise ImageNotFoundError("standard input is closed: pipe a picture into it, or name a file")
    try:
        # One byte more than is allowed is enough to be refused.
        return sys.stdin.buffer.read(ImageLimits().max_bytes + 1)
    except OSError as error:
        raise ImageNotFoundError(f"standard input cannot be read ({error.strerror}): name a file instead") from error


@contextmanager
def own_errors_only() -> Iterator[None]:
    """Keeps what libraries in C print off standard error: libjpeg and libpng name no file, and our own lines do.

    `sys.stderr` goes on to where it went, through a descriptor of its own.
    """
    ours = sys.stderr
    # Where something else stands in for the stream, it does not write to descriptor 2 and stays as it is.
    if isinstance(ours, TextIOWrapper) and ours is sys.__stderr__:
        ours.flush()
        sys.stderr = open(os.dup(2), "w", encoding=ours.encoding, errors=ours.errors, buffering=1)  # noqa: PTH123, SIM115
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        if sys.stderr is not ours:
            sys.stderr.close()
            sys.stderr = ours


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error where that is a terminal; gives the function that moves it by one."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines for a file or a pipe must not be drawn over the bar, but those for the same terminal must.
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=redirect, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of optional dependencies: says which extra to install (MissingExtraError) where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "captionist":
            raise
        raise MissingExtraError(
            f"this needs the package {error.name}, which is missing: pip install '.[{extra}]' in the source folder"
        ) from error


def writable(path: Path | None) -> Path | None:
    """Check of an option that names a file to write, so that no long work is lost to a misspelt folder."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise typer.BadParameter(
            f"{path} cannot be written: " + ("it is a folder" if path.is_dir() else "no such folder")
        )
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file. Raises CaptionistError where that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CaptionistError(f"{path} cannot be written ({error.strerror}): name another file") from error
