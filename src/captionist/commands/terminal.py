"""What the commands share: lines, progress, missing extras, files to write, options."""

import codecs
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from captionist import paths
from captionist.errors import CaptionistError, ImageNotFoundError, MissingExtraError, UnsupportedImageError
from captionist.options import SearchOptions, meaning

if TYPE_CHECKING:
    from rich.console import RenderableType

    from captionist.images import ImageLimits

_bar: Any = None  # the bar on screen now

ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="BUNDLE", help="A bundle's directory, or the name of a model inside the package."),
]


def _search_option(name: str) -> Any:
    """An option of the search that takes a whole number; help, limits and messages come from its field."""
    field = meaning(name)
    text = f"{field['description'][0].upper()}{field['description'][1:]}."

    def parse(value: str) -> Any:
        change: Any = {name: int(value) if re.fullmatch(r"-?[0-9]{1,4000}", value) else value}
        try:
            return getattr(SearchOptions().override(**change), name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return typer.Option(min=field["ge"], max=field["le"], metavar="N", help=text, parser=parse)


BeamsOption = Annotated[int | None, _search_option("num_beams")]
CaptionsOption = Annotated[int | None, _search_option("num_captions")]
WordsOption = Annotated[int | None, _search_option("max_words")]
RetrievedOption = Annotated[int | None, _search_option("retrieved")]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="flickr8k, flickr30k, coco, imagefolder, webdataset, or auto: chosen by the files found.",
    ),
]

# A tab or line break in a file name would look like the end of a field or record, and the terminal would obey an escape
# sequence.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES |= str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


_UNBROKEN = 10_000  # columns

SPELT_OUT = "captionist-spelt-out"
"""The error handler of our output: file names that are not UTF-8 come out as they came in, and characters that the
output's encoding lacks are written as \\u0171 and so on.
"""


def _spell_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, behind = error.object[error.start], error.start + 1
    # In an encoding of two or four bytes per unit, a single byte has no place.
    if "\udc80" <= character <= "\udcff" and not error.encoding.lower().startswith(("utf-16", "utf-32")):
        return bytes([ord(character) - 0xDC00]), behind
    return character.encode("ascii", "backslashreplace").decode("ascii"), behind


codecs.register_error(SPELT_OUT, _spell_out)


def escape(text: str) -> str:
    """Text on one line, with its control characters written out."""
    return text.translate(_ESCAPES)


def print_error(name: str, message: str, as_json: bool) -> None:
    """Print what is wrong with one of many inputs, on standard error, or as JSON among the results."""
    if as_json:
        print_json(path=name, error=message)
    else:
        print_line(sys.stderr, escape(f"{name or repr(name)}: {message}"))


def print_json(**fields: object) -> None:
    """Print an object on one line, in pure ASCII: valid JSON in any locale, even for file names that are not UTF-8."""
    print_line(sys.stdout, json.dumps(fields))


def print_line(stream: TextIO, line: str) -> None:
    """Write a line unchanged and flush it, so that a stopped run leaves whole lines. A bar makes way for it."""
    in_its_way = _bar is not None and stream.isatty()
    if in_its_way:
        _bar.clear()
    stream.write(f"{line}\n")
    stream.flush()
    if in_its_way:
        _bar.refresh()


def print_tables(renderable: "RenderableType") -> None:
    """Print tables and text for people, fitted to a terminal; elsewhere, lines stay whole for programs to read."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else _UNBROKEN).print(renderable)


def read_stdin(limits: "ImageLimits") -> bytes:
    """The picture on standard input. Raises ImageNotFoundError, and UnsupportedImageError if there are several."""
    from captionist.several import holds_several

    if sys.stdin is None:  # Python's sign that it was started with the descriptor closed
        raise ImageNotFoundError("standard input is closed: pipe a picture into it, or name a file")
    try:
        # One byte more than allowed is enough to refuse it.
        data = sys.stdin.buffer.read(limits.max_bytes + 1)
    except OSError as error:
        raise ImageNotFoundError(f"standard input cannot be read ({error.strerror}): name a file instead") from error
    if holds_several(data):
        raise UnsupportedImageError(
            "standard input holds more than one picture: name the files instead, or give one at a time"
        )
    return data


@contextmanager
def own_errors_only() -> Iterator[None]:
    """Keep what C libraries print off standard error: libtiff does not name the file, but our own lines do.

    `sys.stderr` still writes where it did, through its own descriptor.
    """
    ours = sys.stderr
    # A replacement for the stream does not write to descriptor 2, and stays as it is.
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
def bar(**options: Any) -> Iterator[Any]:
    """A tqdm with these options if standard error is a terminal, else None. `print_line` makes room for its lines."""
    global _bar
    if not sys.stderr.isatty() or os.environ.get("TERM") in (None, "dumb"):
        yield None
        return
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # otherwise it starts a thread
    with tqdm(file=sys.stderr, leave=False, ascii=True, dynamic_ncols=True, **options) as _bar:
        try:
            yield _bar
        finally:
            _bar.clear()
            _bar = None


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar, if there is a terminal; yields the function that moves it by one."""
    with bar(desc=description, total=total) as shown:
        yield shown.update if shown is not None else lambda: None


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of optional dependencies: if one is missing, says which extra to install (MissingExtraError)."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "captionist":
            raise
        raise MissingExtraError(
            f'this needs the package {error.name}, which is missing: pip install "captionist[{extra}]"'
        ) from error


def writable(path: Path | None) -> Path | None:
    """Check an option that names a file to write, so that a misspelt folder does not waste a long run."""
    if path is not None and (reason := _why_not_writable(path)):
        raise typer.BadParameter(f"{path} cannot be written: {reason}")
    return path


def _why_not_writable(path: Path) -> str | None:
    if paths.isdir(path):
        return "it is a folder"
    if reason := paths.obstacle(path):
        return reason
    if not paths.isdir(path.parent):
        return "no such folder"
    there = path if paths.exists(path) else path.parent
    return None if os.access(there, os.W_OK) else "it is read-only" if there is path else "the folder is read-only"


def write_text(path: Path, text: str) -> None:
    """Write a file. Raises CaptionistError if that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CaptionistError(f"{path} cannot be written ({error.strerror}): name another file") from error
