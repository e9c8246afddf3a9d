"""captionist caption."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionist.commands.collection import EngineName, caption_to_table
from captionist.commands.limits import MaxBytesOption, MaxPixelsOption, image_limits
from captionist.commands.summary import Summary
from captionist.commands.terminal import (
    BeamsOption,
    CaptionsOption,
    ModelOption,
    RetrievedOption,
    WordsOption,
    escape,
    own_errors_only,
    print_error,
    print_json,
    print_line,
    progress,
    read_stdin,
)
from captionist.errors import CaptionistError
from captionist.options import given

if TYPE_CHECKING:
    from captionist.captions import Caption


def caption(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Pictures, folders, globs, or - for one on standard input.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, errors included.")] = False,
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
            help="Leave out captions that are less likely to be accepted.",
        ),
    ] = 0.0,
    explain: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each picture there with a heat map for every word.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE", help="Write Parquet into this folder or URL instead, or go on with what is there."
        ),
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="Who captions for --out: this process (by default), or actors on Ray.")
    ] = None,
    actors: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Actors on Ray; by default one for each of its cores.")
    ] = None,
    max_bytes: MaxBytesOption = None,
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Describe pictures: prints the path, a tab and a sentence for each.

    Folders are searched with their sub-folders. Hidden files, sidecars, films, texts and the like in them are skipped
    and counted; a file that you name yourself is read, whatever it is. A file that cannot be read gives one line on
    standard error and exit code 1; the others are captioned all the same. Where no caption is as confident as
    --min-confidence asks, nothing stands behind the tab. In a path, control characters are printed as \\t, \\n, \\x1b
    and so on; --json has paths as they are. After several files, the last line on standard error says how many were
    captioned.

    With --out, PATH may be a URL too, such as s3://bucket/folder. Run again after it was stopped, the command does what
    is missing. docs/collections.md has more.
    """
    from captionist.sources import STDIN, find_sources

    limits = image_limits(max_bytes, max_pixels)
    options = given(num_beams=num_beams, retrieved=retrieved, num_captions=num_captions, max_words=max_words)
    if out is not None:
        unfit = {"-": STDIN in paths, "--json": as_json, "--num-captions": num_captions, "--explain": explain}
        for name, is_given in (unfit | {"--min-confidence": min_confidence}).items():
            if is_given:
                raise typer.BadParameter(f"{name} does not go with --out: leave it out")
        caption_to_table(paths, out, model, limits, engine or EngineName.LOCAL, actors, options)
    if engine is not None or actors is not None:
        raise typer.BadParameter("--engine and --actors are for --out: name a table to write")

    summary = Summary()
    found = find_sources(paths, lambda: read_stdin(limits))
    for name, message in found.errors:
        print_error(name, message, as_json)
    summary.failed, summary.skipped = len(found.errors), found.skipped
    if found.sources:
        from captionist.captioner import Captioner
        from captionist.explain import SheetFolder, draw
        from captionist.images import decode
        from captionist.inference.sharing import paired

        captioner = Captioner(model, limits=limits)
        try:
            results = captioner.caption_many((source.image for source in found.sources), **options)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        sheets = SheetFolder(explain) if explain else None
        with own_errors_only(), progress("captioning", len(found.sources)) as advance:
            for source, result in paired(found.sources, results):
                if result.error is not None:
                    summary.failed += 1
                    print_error(source.name, source.message(result.error), as_json)
                if result.caption is not None:
                    summary.captioned += 1
                    _print_captions(source.name, result.caption, min_confidence, as_json)
                    if sheets:
                        try:
                            sheets.save(source.stem, draw(decode(source.image, limits=limits), result.caption))
                        except CaptionistError as error:
                            summary.failed += 1
                            print_error(source.name, str(error), as_json)
                advance()
    summary.print()
    raise typer.Exit(1 if summary.failed else 0)


def _print_captions(name: str, caption: "Caption", min_confidence: float, as_json: bool) -> None:
    kept = [one for one in (caption, *caption.alternatives) if one.confidence >= min_confidence]
    if as_json:
        shown = replace(kept[0], alternatives=tuple(kept[1:])).to_dict() if kept else dict.fromkeys(caption.to_dict())
        print_json(**{"path": name, **shown, "alternatives": shown["alternatives"] or []})
        return
    for text in [one.text for one in kept] or [""]:
        print_line(sys.stdout, f"{escape(name)}\t{text}")
