"""captionist data."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionist.commands.download import download
from captionist.commands.terminal import (
    FormatOption,
    ModelOption,
    escape,
    own_errors_only,
    print_line,
    print_tables,
    progress,
)

if TYPE_CHECKING:
    from captionist.bundle import Bundle
    from captionist.data import CaptionFilter

app = typer.Typer(no_args_is_help=True, help="Download corpora, and inspect them.")
app.command()(download)


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus, such as Flickr8k.")],
    format: FormatOption = "auto",
    model: ModelOption = None,
    max_caption_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Show what dropping longer captions from training would cost.")
    ] = 20,
    open_pictures: Annotated[
        bool, typer.Option("--open-pictures", help="Open every picture, and name each that cannot be read.")
    ] = False,
) -> None:
    """Show what a corpus holds: images, captions, splits, lengths, problems, and what training drops.

    With --open-pictures, a picture that cannot be read gives one line on standard error and exit code 1.
    """
    from captionist.bundle import Bundle, list_bundles
    from captionist.data import inspect_corpus, open_all, open_corpus

    corpus = open_corpus(directory, format)
    unreadable: tuple[str, ...] = ()
    if open_pictures:
        with own_errors_only(), progress("opening", len(corpus.examples)) as advance:
            corpus, unreadable = open_all(corpus, advance)
        for message in unreadable:
            print_line(sys.stderr, escape(message))
    token_filter, lowercase = None, False
    if model is None and not list_bundles():
        typer.echo("no model is installed to count tokens with: pass --model to see what training drops", err=True)
    else:
        bundle = Bundle.open(model)
        token_filter, lowercase = _filter(bundle, max_caption_tokens), bundle.config.lowercase
    print_tables(inspect_corpus(corpus, token_filter, lowercase=lowercase, opened=open_pictures))
    raise typer.Exit(1 if unreadable else 0)


def _filter(bundle: "Bundle", max_tokens: int) -> "CaptionFilter":
    from captionist.bundle import TOKENIZER
    from captionist.data import CaptionFilter
    from captionist.inference.tokenizer import CaptionTokenizer

    tokenizer = CaptionTokenizer(bundle.path / TOKENIZER)
    return CaptionFilter(max_tokens=max_tokens, count_tokens=lambda text: len(tokenizer.encode(f" {text}")))
