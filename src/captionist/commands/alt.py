"""captionist alt."""

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionist.commands.limits import MaxBytesOption, MaxPixelsOption, image_limits
from captionist.commands.summary import count
from captionist.commands.terminal import (
    ModelOption,
    escape,
    own_errors_only,
    print_error,
    print_line,
    progress,
)
from captionist.errors import CaptionistError

if TYPE_CHECKING:
    from captionist.alt.documents import Document
    from captionist.alt.html import Gap


def alt(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Pages of HTML or Markdown, folders, globs.")],
    write: Annotated[bool, typer.Option("--write", help="Write the texts into the pages.")] = False,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder at which paths beginning with / start; by default the folder given as PATH."
        ),
    ] = None,
    model: ModelOption = None,
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            show_default=False,
            help="Leave out texts that are less likely than this to be right.",
        ),
    ] = 0.0,
    max_bytes: MaxBytesOption = None,
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Suggest alternative texts for the images of a site that have none: prints a diff, and changes nothing.

    With --write, the pages are changed as the diff says, and every other byte stays as it is. In HTML, an <img> without
    alt gets one; alt="" marks an image as decoration, so it is left alone. In Markdown, ![](picture.jpg) gets a text
    too. A picture is described once, however often it is used. A picture that cannot be read gives one line on standard
    error and exit code 1; images on the web and in data: URIs are skipped and counted. See docs/alt-text.md.
    """
    from captionist.alt.documents import gather, is_document, read_document, root_of
    from captionist.sources import find_sources

    no_stdin = "a page must be beside its pictures: name a file"
    found = find_sources(paths, no_stdin, lambda name: not is_document(name), "pages of HTML or Markdown")
    errors, documents = found.errors, list["Document"]()
    for source in found.sources:
        try:
            documents.append(read_document(source.name, root or root_of(source.name, paths)))
        except CaptionistError as error:
            errors.append((source.name, str(error)))
    for name, message in errors:
        print_error(name, message, as_json=False)

    pictures, elsewhere = gather(documents)
    texts: dict[str, dict[Gap, str]] = defaultdict(dict)
    became = Counter(described=0, failed=0, unsure=0)
    if pictures:
        from captionist.captioner import Captioner
        from captionist.inference.sharing import paired

        openable = [picture for picture in pictures if picture.can_be_opened]
        for picture in pictures:
            if not picture.can_be_opened:
                became["failed"] += len(picture.uses)
                print_error(picture.place, f"{picture.image}: this is not a file: name a picture", as_json=False)
        captioner = Captioner(model, limits=image_limits(max_bytes, max_pixels))
        results = captioner.caption_many(picture.image for picture in openable)
        with own_errors_only(), progress("describing", len(openable)) as advance:
            for picture, result in paired(openable, results):
                if result.caption is None:
                    became["failed"] += len(picture.uses)
                    print_error(picture.place, str(result.error), as_json=False)
                elif result.caption.confidence < min_confidence:
                    became["unsure"] += len(picture.uses)
                else:
                    became["described"] += len(picture.uses)
                    for document, gap in picture.uses:
                        texts[document.name][gap] = result.caption.text
                advance()

    for document in documents:
        if document.name in texts:
            filled = document.filled(texts[document.name])
            _print_diff(document.diff(filled))
            if write:
                try:
                    document.replace(filled)
                except CaptionistError as error:
                    errors.append((document.name, str(error)))
                    print_error(document.name, str(error), as_json=False)
    _print_summary(len(documents), became, elsewhere, write)
    raise typer.Exit(1 if errors or became["failed"] else 0)


def _print_summary(pages: int, became: Counter[str], elsewhere: int, written: bool) -> None:
    lacking = became.total() + elsewhere
    line = f"{count(lacking, 'image')} without alt text in {count(pages, 'page')}"
    if lacking:
        line += f": {became['described']:,} described"
        line += f", {became['failed']:,} failed" if became["failed"] else ""
        line += f", {became['unsure']:,} left out as unsure" if became["unsure"] else ""
        line += f", {elsewhere:,} skipped (on the web, or in the page itself)" if elsewhere else ""
    if became["described"] and not written:
        line += "; --write puts the texts in"
    print_line(sys.stderr, line)


def _print_diff(diff: bytes) -> None:
    """Unchanged, so that it can be applied; on a terminal, without control characters."""
    if sys.stdout.isatty():
        for line in diff.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"):
            print_line(sys.stdout, "\t".join(map(escape, line.removesuffix("\r").split("\t"))))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(diff)
        sys.stdout.buffer.flush()
