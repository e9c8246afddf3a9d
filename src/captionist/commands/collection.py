"""captionist caption --out: a whole collection into a table."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

import typer

from captionist.commands.terminal import escape, needs_extra, own_errors_only, print_error, print_line, progress

if TYPE_CHECKING:
    from captionist.collection.blocks import Row
    from captionist.images import ImageLimits
    from captionist.options import SearchOverrides


class EngineName(StrEnum):
    """What captions: this process or Ray."""

    LOCAL = "local"
    RAY = "ray"


def caption_to_table(
    paths: Sequence[str],
    out: str,
    model: str | None,
    limits: "ImageLimits",
    engine: EngineName,
    actors: int | None,
    options: "SearchOverrides",
) -> NoReturn:
    """Write the table, print a summary of it, and exit."""
    if actors is not None and engine is EngineName.LOCAL:
        raise typer.BadParameter("--actors needs --engine ray: a single process has a thread for each core instead")
    with needs_extra("parquet"):
        from captionist.collection.addresses import find_addresses
        from captionist.collection.captioning import caption_collection, local_runner
        from captionist.collection.table import Table
    if engine is EngineName.RAY:
        with needs_extra("ray"):
            from captionist.collection.on_ray import ray_runner
    from captionist.captioner import Captioner

    addresses, errors = find_addresses(paths)
    for name, message in errors:
        print_error(name, message, as_json=False)
    if not addresses:
        raise typer.Exit(1)
    captioner = Captioner(model, limits=limits)
    try:
        search = captioner.defaults.override(**options).model_dump()
        made_with = {
            "model": captioner.bundle.config.name,
            "fingerprint": captioner.bundle.fingerprint,
            "search": search,
        }
        table = Table(out, made_with)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    run = (
        ray_runner(model, actors, limits, **options) if engine is EngineName.RAY else local_runner(captioner, **options)
    )
    missing = sum(one.name not in table.done for one in addresses)
    with table, own_errors_only(), progress("captioning", missing) as advance:

        def tell(row: "Row") -> None:
            if row.error is not None:
                print_error(row.path, row.error, as_json=False)
            advance()

        caption_collection(addresses, table, run, tell)
    failed = sum(one.name in table.failed for one in addresses)
    print_line(
        sys.stdout,
        f"{escape(out)}: {len(addresses):,} pictures, {failed:,} of them with an error; {missing:,} were new",
    )
    raise typer.Exit(1 if failed or errors else 0)
