"""README.md's row of an embedded model, held against the model's own scores."""

import re
from typing import Any

from captionist.bundle import Bundle
from deploy.release.errors import ReleaseError

# The columns of README's table, and what scores.json calls them.
_COLUMNS = {"BLEU-1": "bleu_1", "BLEU-4": "bleu_4", "METEOR": "meteor", "ROUGE-L": "rouge_l", "CIDEr-D": "cider"}


def compare(readme: str, bundle: Bundle) -> int:
    """How many figures README states of a bundle, all of them right.

    Raises ReleaseError naming every figure that is not what scores.json says, with one digit after the point.
    """
    first = f"embedded `{bundle.config.name}`, beam {bundle.config.search.num_beams}"
    columns, row = _row(readme, first)
    missing = _COLUMNS.keys() - set(columns)
    if missing:
        raise ReleaseError(f"README.md's table of scores lacks {', '.join(sorted(missing))}")
    stated = dict(zip(columns, row, strict=True))
    faults = [
        f"{column} is {stated[column]}, scores.json says {right[-1]}"
        for column, metric in _COLUMNS.items()
        if stated[column] not in (right := _spellings(bundle.scores[metric]))
    ]
    if faults:
        raise ReleaseError(f"README.md, `{bundle.config.name}`: {'; '.join(faults)}")
    return len(_COLUMNS)


def _row(readme: str, first: str) -> tuple[list[str], list[str]]:
    """The header of a table, and its row that begins with a cell."""
    for table in re.findall(r"(?:^\|.*\n)+", readme, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for row in rows:
            if row[0] == first:
                return header, row
    raise ReleaseError(f"README.md has no table with a row `| {first} |`")


def _spellings(score: dict[str, Any]) -> tuple[str, str]:
    value = f"{score['value']:.1f}"
    return value, f"{value} ({score['low']:.1f} to {score['high']:.1f})"
