"""captionist data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionist.commands.download import download
from captionist.commands.terminal import FormatOption, ModelOption, print_tables

if TYPE_CHECKING:
    from captionist.bundle import Bundle
    from captionist.data import CaptionFilter

app = typer.Typer(no_args_is_help=True, help="Download corpora, and look into them.")
app.command()(download)


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus, such as Flickr8k.")],
    format: FormatOption = "auto",
    model: ModelOption = None,
    max_caption_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Show what dropping longer captions from training would cost.")
    ] = 20,
) -> None:
    """Show what a corpus holds: images, captions, splits, lengths, what is wrong with it and what training drops."""

    from captionist.bundle import Bundle, list_bundles
    from captionist.data import inspect_corpus, open_corpus, render

    corpus = open_corpus(directory, format)
    if model is None and not list_bundles():
        typer.echo("no model is installed to count tokens with: pass --model to see what training drops", err=True)
        summary = inspect_corpus(corpus)
    else:
        bundle = Bundle.open(model)
        summary = inspect_corpus(corpus, _filter(bundle, max_caption_tokens), lowercase=bundle.config.lowercase)
    print_tables(render(summary))


def _filter(bundle: "Bundle", max_tokens: int) -> "CaptionFilter":
    from captionist.bundle import TOKENIZER
    from captionist.data import CaptionFilter
    from captionist.inference.tokenizer import CaptionTokenizer

    tokenizer = CaptionTokenizer(bundle.path / TOKENIZER)
    return CaptionFilter(max_tokens=max_tokens, count_tokens=lambda text: len(tokenizer.encode(f" {text}")))
