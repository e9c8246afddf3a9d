"""![](picture.jpg) and inline <img> of Markdown (CommonMark), by markdown-it-py.

It says on which lines a block stands, but not where in it things are. So two of its rules note where in their block
they found something, and the lines of the block, which have lost the markers of quotes and lists, are found again in
the document.
"""

import re
from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline, html_inline, image
from markdown_it.token import Token

from captionist.alt.html import Gap
from captionist.alt.html import find_gaps as find_gaps_in_html

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_FRONT_MATTER = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\r?\n(?:[^\r\n]*(?>\r\n|\r|\n))*?\1[ \t]*(?:\r?\n|$)")
_START = "start"

Rule = Callable[[StateInline, bool], bool]


def find_gaps(text: str) -> list[Gap]:
    """Pictures that have no alternative text, not those in code or in the front matter."""
    parser = MarkdownIt("commonmark")
    parser.inline.ruler.at("image", _noting(image))
    parser.inline.ruler.at("html_inline", _noting(html_inline))
    matter = _FRONT_MATTER.match(text)
    front = matter.end() if matter else 0
    lines = _Lines(text)
    blank = re.sub(r"[^\r\n]", "", text[:front])
    gaps: list[Gap] = []
    for block in parser.parse(blank + text[front:]):
        if block.map is None or block.type not in ("inline", "html_block"):
            continue
        for at, urls, attribute in _gaps(block):
            gaps.append(Gap(lines.place(block.content, at, block.map[0]), urls, attribute))
    return gaps


def _gaps(block: Token) -> list[tuple[int, tuple[str, ...], bool]]:
    """Of a block, with places in its content."""
    if block.type == "html_block":
        return [(gap.at, gap.urls, True) for gap in find_gaps_in_html(block.content)]
    found: list[tuple[int, tuple[str, ...], bool]] = []
    for token in block.children or []:
        if token.type == "image" and not token.content:
            found.append((token.meta[_START] + len("!["), (str(token.attrs["src"]),), False))
        elif token.type == "html_inline":
            start = token.meta[_START]
            found += [(start + gap.at, gap.urls, True) for gap in find_gaps_in_html(token.content)]
    return found


def _noting(rule: Rule) -> Rule:
    def noting(state: StateInline, silent: bool) -> bool:
        start = state.pos
        found = rule(state, silent)
        if found and not silent:
            state.tokens[-1].meta[_START] = start
        return found

    return noting


class _Lines:
    """The lines of a document, with their places."""

    def __init__(self, text: str) -> None:
        self._lines = [(found.start(), found[0].rstrip("\r\n")) for found in _LINE.finditer(text)]

    def place(self, content: str, at: int, first: int) -> int:
        """Where in the document a place in a block's content is, whose first line is this one of the document.

        A line of the content is the end of the document's line, or in a heading a part of it, with other white space
        around it. Raises ValueError if it is neither.
        """
        before = content[:at]
        start = before.rfind("\n") + 1
        written = content[start:].partition("\n")[0]
        core = written.strip()
        while not self._lines[first][1].strip():  # of white space that is none to Markdown's blocks
            first += 1
        line_start, line = self._lines[first + before.count("\n")]
        line = line.rstrip()
        column = len(line) - len(core) if line.endswith(core) else line.find(core)
        if column < 0:
            raise ValueError("what stands on a line is not what the parser read there")
        return line_start + column + (at - start) - (len(written) - len(written.lstrip()))
