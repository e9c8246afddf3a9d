"""captionist caption."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from captionist.commands.collection import EngineName, caption_to_table
from captionist.commands.formats import CaptionFormat, begin_csv, lines
from captionist.commands.limits import MaxBytesOption, MaxPixelsOption, ProviderOption, image_limits, open_captioner
from captionist.commands.summary import Summary
from captionist.commands.terminal import (
    BeamsOption,
    CaptionsOption,
    ModelOption,
    RetrievedOption,
    WordsOption,
    own_errors_only,
    print_error,
    print_line,
    progress,
    read_stdin,
)
from captionist.errors import CaptionistError
from captionist.options import given


def caption(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Pictures, folders or globs, or - for a picture on standard input."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, errors included; the same as --format json.")
    ] = False,
    form: Annotated[
        CaptionFormat | None,
        typer.Option(
            "--format", metavar="FORMAT", help="text, json, alt (the sentence alone), html (an <img>), or csv."
        ),
    ] = None,
    model: ModelOption = None,
    num_beams: BeamsOption = None,
    retrieved: RetrievedOption = None,
    num_captions: CaptionsOption = None,
    max_words: WordsOption = None,
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            show_default=False,
            help="Leave out captions that are less likely than this to be accepted.",
        ),
    ] = 0.0,
    sidecar: Annotated[
        bool,
        typer.Option("--sidecar", help="Also write each caption as the description in an XMP file beside the picture."),
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="With --sidecar: also replace descriptions of earlier runs.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="With --sidecar: replace every description, also those that others wrote."),
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each picture to this folder, with a heat map for every word."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="Write Parquet to this folder or URL instead, or continue the table there."),
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="What captions for --out: this process (the default), or actors on Ray.")
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of actors on Ray; by default one for each of its cores."),
    ] = None,
    max_bytes: MaxBytesOption = None,
    max_pixels: MaxPixelsOption = None,
    provider: ProviderOption = None,
) -> None:
    """Describe pictures: prints the path, a tab and a sentence for each.

    Folders are searched with their subfolders. Hidden files, sidecars, videos, texts and the like in them are skipped
    and counted; a file that you name yourself is always read. A file that cannot be read gives one line on standard
    error and exit code 1; the others are still captioned. If no caption is as confident as --min-confidence, nothing
    follows the tab. Control characters in a path are printed as \\t, \\n, \\x1b and so on; --json leaves paths as they
    are. After several files, the last line on standard error says how many were captioned.

    With --sidecar, pictures that have a description in a sidecar, or in their own XMP, are skipped and counted.

    With --out, PATH may also be a URL such as s3://bucket/folder. If the command was stopped, run it again and it does
    only what is missing. See docs/collections.md, and docs/alt-text.md for --sidecar and --format.
    """
    from captionist.sources import STDIN, Source, find_sources

    limits = image_limits(max_bytes, max_pixels)
    options = given(num_beams=num_beams, retrieved=retrieved, num_captions=num_captions, max_words=max_words)
    if out is not None:
        unfit: dict[str, object] = {"-": STDIN in paths, "--json": as_json, "--format": form, "--explain": explain}
        unfit |= {"--num-captions": num_captions, "--min-confidence": min_confidence, "--sidecar": sidecar}
        for name, is_given in unfit.items():
            if is_given:
                raise typer.BadParameter(f"{name} cannot be used with --out: leave it out")
        caption_to_table(paths, out, model, limits, engine or EngineName.LOCAL, actors, options)
    if engine is not None or actors is not None:
        raise typer.BadParameter("--engine and --actors need --out: name a table to write")
    if sidecar and STDIN in paths:
        raise typer.BadParameter("standard input has no folder for a sidecar: name files, or leave --sidecar out")
    for name, is_given in {"--renew": renew, "--overwrite": overwrite}.items():
        if is_given and not sidecar:
            raise typer.BadParameter(f"{name} needs --sidecar: add that, or leave {name} out")
    form = _chosen(form, as_json, num_captions)
    as_json = form is CaptionFormat.JSON

    summary = Summary()
    found = find_sources(paths, lambda: read_stdin(limits))
    if form is CaptionFormat.CSV:
        begin_csv()
    for name, message in found.errors:
        print_error(name, message, as_json)
    summary.failed, summary.skipped = len(found.errors), found.skipped
    if found.sources:
        from captionist.captions import Caption
        from captionist.explain import SheetFolder, draw
        from captionist.images import decode, reason
        from captionist.inference.sharing import paired
        from captionist.sidecars import Sidecars

        captioner = open_captioner(model, limits, provider)
        try:
            captioner.options(**options)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        sheets = SheetFolder(explain) if explain else None
        sidecars = Sidecars(overwrite, renew) if sidecar else None

        def draw_sheet(source: Source, caption: Caption) -> None:
            if sheets:
                sheets.save(source.stem, draw(decode(source.image, limits=limits), caption))

        def write_sidecar(source: Source, caption: Caption) -> None:
            if sidecars and isinstance(source.image, Path) and caption.confidence >= min_confidence:
                summary.sidecars[sidecars.write(source.image, caption.text).value] += 1

        with own_errors_only(), progress("captioning", len(found.sources)) as advance:

            def wanted() -> Iterator[Path | bytes]:
                for source in found.sources:
                    settled = sidecars.settled(source.image) if sidecars and isinstance(source.image, Path) else None
                    if settled is None:
                        yield source.image
                    else:
                        summary.sidecars[settled.value] += 1
                        advance()

            for source, result in paired(found.sources, captioner.caption_many(wanted(), **options)):
                if result.error is not None:
                    summary.failed += 1
                    print_error(source.name, reason(result.error, source.image), as_json)
                if result.caption is not None:
                    summary.captioned += 1
                    for line in lines(form, source.name, result.caption, min_confidence):
                        print_line(sys.stdout, line)
                    for write in (write_sidecar, draw_sheet):
                        try:
                            write(source, result.caption)
                        except CaptionistError as error:
                            summary.failed += 1
                            print_error(source.name, str(error), as_json)
                advance()
    summary.print()
    raise typer.Exit(1 if summary.failed else 0)


def _chosen(form: CaptionFormat | None, as_json: bool, num_captions: int | None) -> CaptionFormat:
    """The format that --format and --json ask for. Raises typer.BadParameter if the two conflict."""
    if as_json and form not in (None, CaptionFormat.JSON):
        raise typer.BadParameter(f"--json and --format {form} are different formats: choose one")
    if form is CaptionFormat.HTML and (num_captions or 1) > 1:
        raise typer.BadParameter("an <img> has only one alt: leave --num-captions out, or choose another --format")
    return CaptionFormat.JSON if as_json else form or CaptionFormat.TEXT
