"""captionist evaluate, captionist score."""

from pathlib import Path
from typing import Annotated

import typer

from captionist.commands.limits import MaxBytesOption, MaxPixelsOption, ProviderOption, image_limits, open_captioner
from captionist.commands.terminal import (
    BeamsOption,
    FormatOption,
    ModelOption,
    RetrievedOption,
    escape,
    needs_extra,
    own_errors_only,
    print_tables,
    progress,
    writable,
    write_text,
)
from captionist.options import given

JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", callback=writable, help="Write the scores to this file as JSON."),
]


def evaluate(
    data: Annotated[Path, typer.Option(metavar="DIR", help="A corpus, such as Flickr8k.")],
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, dev or test.")],
    format: FormatOption = "auto",
    model: ModelOption = None,
    num_beams: BeamsOption = None,
    retrieved: RetrievedOption = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N pictures.")] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Let this CLIP judge the captions (CLIPScore): a name on the hub, or a directory in the same layout.",
        ),
    ] = None,
    json_file: JsonOption = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", callback=writable, help="Write a report to this file.")
    ] = None,
    max_bytes: MaxBytesOption = None,
    max_pixels: MaxPixelsOption = None,
    provider: ProviderOption = None,
) -> None:
    """Caption the pictures of a corpus and score the captions against its references."""
    with needs_extra("train"):
        from captionist.data import open_corpus
        from captionist.evaluation.evaluate import evaluate as run
        from captionist.evaluation.report import write_report
        from captionist.evaluation.scores import render

        if clip:
            from captionist.evaluation.clip import Clip

    examples = open_corpus(data, format).split(split)[:limit]
    captioner = open_captioner(model, image_limits(max_bytes, max_pixels), provider)
    judge = Clip(clip) if clip else None
    options = given(num_beams=num_beams, retrieved=retrieved)
    try:
        captioner.options(**options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    times = 1 + bool(judge) + bool(captioner.bundle.config.alignment)
    with own_errors_only(), progress("captioning", len(examples) * times) as advance:
        evaluation = run(examples, captioner, advance, judge, **options)
    print_tables(render(evaluation.scores))
    if evaluation.recall:
        typer.echo(evaluation.recall.line())
    for line in evaluation.mistakes.lines():
        typer.echo(line)
    if evaluation.reliability:
        typer.echo(evaluation.reliability.line())
    for message in evaluation.failures:
        typer.echo(escape(message), err=True)
    if json_file:
        write_text(json_file, evaluation.to_json())
    if report:
        title = f"{captioner.bundle.config.name} on {data.name}, split {split}"
        write_report(report, title, evaluation.scores, evaluation.rows, evaluation.reliability, evaluation.recall)
    raise typer.Exit(1 if evaluation.failures else 0)


def score(
    references: Annotated[Path, typer.Option(metavar="REFS.json", help='{"id": ["reference", ...]}')],
    candidates: Annotated[Path, typer.Option(metavar="CANDS.json", help='{"id": "caption"}')],
    json_file: JsonOption = None,
) -> None:
    """Score captions that were written by any program, or by people."""
    with needs_extra("train"):
        from captionist.evaluation.files import load_candidates, load_references
        from captionist.evaluation.scores import render, score_captions

    scores = score_captions(load_references(references), load_candidates(candidates))
    print_tables(render(scores))
    if json_file:
        write_text(json_file, scores.model_dump_json(indent=2) + "\n")
