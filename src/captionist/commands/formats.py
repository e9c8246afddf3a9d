"""How `captionist caption` prints a picture's captions: --format."""

import csv
import json
import sys
from dataclasses import replace
from enum import StrEnum
from html import escape as escape_html
from io import StringIO, TextIOWrapper
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote

from captionist.commands.terminal import escape, print_line

if TYPE_CHECKING:
    from captionist.captions import Caption

# Spreadsheets take these for the start of a formula; East Asian versions also the wide ones.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


class CaptionFormat(StrEnum):
    """What is printed for each picture."""

    TEXT = "text"
    JSON = "json"
    ALT = "alt"
    HTML = "html"
    CSV = "csv"


def begin_csv() -> None:
    """Print the header, and from now on keep the system from translating our line ends."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(newline="\n")
    print_line(sys.stdout, _row("path", "caption", "confidence"))


def lines(form: CaptionFormat, name: str, caption: "Caption", min_confidence: float) -> list[str]:
    """A picture's lines, without line feeds: its confident enough captions, best first, or one line without any."""
    kept = [one for one in (caption, *caption.alternatives) if one.confidence >= min_confidence]
    match form:
        case CaptionFormat.JSON:
            best = (
                replace(kept[0], alternatives=tuple(kept[1:])).to_dict() if kept else dict.fromkeys(caption.to_dict())
            )
            return [json.dumps({"path": name, **best, "alternatives": best["alternatives"] or []})]
        case CaptionFormat.HTML:
            # An empty alt would say that the picture is mere decoration, which nobody knows.
            alt = f' alt="{in_attribute(kept[0].text)}"' if kept else ""
            return [f'<img src="{in_attribute(_url(name))}"{alt}>']
        case CaptionFormat.CSV:
            rows = [(one.text, f"{one.confidence:.4f}") for one in kept] or [("", "")]
            return [_row(escape(name), *row) for row in rows]
        case CaptionFormat.ALT:
            return [in_attribute(one.text) for one in kept] or [""]
        case CaptionFormat.TEXT:
            return [f"{escape(name)}\t{text}" for text in [one.text for one in kept] or [""]]


def in_attribute(text: str) -> str:
    """Text for an HTML attribute in double quotes; an apostrophe may stay."""
    return escape_html(text, quote=False).replace('"', "&quot;")


def _url(name: str) -> str:
    return quote(PurePath(name).as_posix().encode("utf-8", "surrogateescape"))


def _row(*cells: str) -> str:
    """A row of RFC 4180 whose cells every spreadsheet takes for text; the line feed comes when the line is printed."""
    row = StringIO()
    safe = [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]
    csv.writer(row, lineterminator="\r").writerow(safe)
    return row.getvalue()
