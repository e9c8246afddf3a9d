"""captionist compare."""

from pathlib import Path
from typing import Annotated

import typer

from captionist.commands.scores import JsonOption
from captionist.commands.terminal import escape, needs_extra, own_errors_only, print_tables, progress, write_text


def compare(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="The bundle in use: a directory, or the name of an embedded one.")
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The bundle that may replace it.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="The corpus that OLD was trained on, such as Flickr8k.")],
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, dev or test.")] = "dev",
    corrections: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A feedback export; its held-out pictures are captioned too."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, metavar="POINTS", help="The most that CIDEr-D may lose on the split.")
    ] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N pictures of each.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Compare two bundles on the same pictures, and say whether NEW may replace OLD.

    The verdict is "promote" if the 95 % interval of the difference in CIDEr-D (paired bootstrap) lies above minus the
    margin on the split and above 0 on the corrections. Without corrections, it is "not worse" if the former holds. The
    exit code is then 0. Otherwise the verdict is "keep" and the exit code 1, as for errors; 2 is wrong usage.
    """
    with needs_extra("train"):
        from captionist.data import open_corpus
        from captionist.evaluation import compare as comparing

    from captionist.captioner import Captioner

    examples = open_corpus(data).split(split)[:limit]
    corrected = comparing.held_out(open_corpus(corrections))[:limit] if corrections else ()
    captioners = Captioner(old), Captioner(new)
    with own_errors_only(), progress("captioning", 2 * (len(examples) + len(corrected))) as advance:
        on_split = comparing.compare(examples, *captioners, advance)
        on_corrections = comparing.compare(corrected, *captioners, advance, examples) if corrections else None
    verdict = comparing.gate(on_split, on_corrections, margin)

    print_tables(comparing.render(on_split, f"{data.name}, split {split}"))
    if corrections and on_corrections:
        print_tables(comparing.render(on_corrections, f"{corrections.name}, held out"))
    for comparison in filter(None, (on_split, on_corrections)):
        for message in comparison.failures:
            typer.echo(escape(message), err=True)
    typer.echo(str(verdict))
    if json_file:
        bundles = {name: str(one.bundle.path) for name, one in zip(("old", "new"), captioners, strict=True)}
        setting = bundles | {"data": str(data), "split": split, "margin": margin}
        write_text(json_file, comparing.to_json(setting, on_split, on_corrections, verdict))
    raise typer.Exit(1 if verdict.word == "keep" else 0)
