"""A corpus summary as tables for a terminal of 80 columns."""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from captionist.data.filters import FilterResult
from captionist.data.inspect import FIRST_FEW, FREQUENT, CorpusSummary, Lengths, ProblemGroup
from captionist.data.records import PROBLEM_MEANINGS


def render(summary: CorpusSummary) -> RenderableType:
    """Tables of what a corpus holds, to be printed by a `rich.console.Console`."""
    parts: list[RenderableType] = [_heading(summary), _splits(summary), _lengths(summary), _language(summary)]
    if summary.filtered is not None:
        parts.append(_drops(summary.filtered))
    parts.append(_problems(summary.problems) if summary.problems else Text("Nothing was left out by the reader."))
    if not summary.opened:
        parts.append(Text("The pictures were not opened: --open-pictures finds those that cannot be read."))
    return Group(*(line for part in parts for line in (part, "")))


def _heading(summary: CorpusSummary) -> Text:
    heading = Text.assemble((summary.name, "bold"), f"  {summary.format}, in {summary.root}\n")
    return heading.append(f"Split: {summary.split_origin}.")


def _table(title: str, *columns: str) -> Table:
    """A table whose first column holds names and whose others hold figures."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _splits(summary: CorpusSummary) -> Table:
    table = _table("Pictures and captions", "split", "pictures", "captions")
    for split in summary.splits:
        table.add_row(split.name, f"{split.images:,}", f"{split.captions:,}")
    table.add_section()
    table.add_row("all", f"{summary.images:,}", f"{summary.captions:,}")
    return table


def _lengths(summary: CorpusSummary) -> Table:
    table = _table("Caption length", "in", "mean", "median", "95th percentile", "longest")
    named: list[tuple[str, Lengths | None]] = [("words", summary.words), ("tokens", summary.tokens)]
    for name, lengths in named:
        if lengths is not None:
            row = (f"{lengths.mean:.1f}", f"{lengths.median:g}", f"{lengths.percentile_95:g}", f"{lengths.longest:,}")
            table.add_row(name, *row)
    return table


def _language(summary: CorpusSummary) -> Table:
    table = _table("Language", "", "count")
    table.add_row("distinct words", f"{summary.distinct_words:,}")
    table.add_row(f"  seen at least {FREQUENT} times", f"{summary.frequent_words:,}")
    table.add_row("captions that repeat an earlier one", f"{summary.repeated_captions:,}")
    table.add_row("  of the same picture", f"{summary.repeated_on_same_image:,}")
    for captions, images in summary.captions_per_image.items():
        table.add_row(f"pictures with {captions} caption{'' if captions == 1 else 's'}", f"{images:,}")
    return table


def _drops(result: FilterResult) -> RenderableType:
    samples = (f"{drop.tokens} tokens, {drop.id}: {drop.caption}" for drop in result.dropped[:FIRST_FEW])
    heading = Text("Length filter (training captions only)", style="bold")
    return Group(heading, _with_samples(Text(str(result)), samples, len(result.dropped)))


def _problems(groups: tuple[ProblemGroup, ...]) -> RenderableType:
    listings: list[RenderableType] = []
    for group in groups:
        line = Text.assemble((f"{group.kind} {group.total:,}", "yellow"), f": {PROBLEM_MEANINGS[group.kind]}")
        samples = (f"{problem.subject}: {problem.detail}" for problem in group.first)
        listings.append(_with_samples(line, samples, group.total))
    total = sum(group.total for group in groups)
    return Group(Text(f"Left out by the reader: {total:,}", style="bold"), *listings)


def _with_samples(line: Text, samples: Iterable[str], total: int) -> RenderableType:
    """The line, the samples indented under it, and how many more there are."""
    # Names and captions come from strangers' files: no escape sequence of theirs may reach the terminal.
    shown = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in sample) for sample in samples]
    if total > len(shown):
        shown.append(f"and {total - len(shown):,} more")
    return Group(line, *(Padding(Text(sample, style="dim"), (0, 0, 0, 2), expand=False) for sample in shown))
