"""<img> without alt, by Python's own HTML tokenizer, which says where every tag begins."""

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import accumulate
from urllib.parse import urljoin

# An alt, or what becomes one in the browser: Vue's :alt and v-bind:alt, Angular's [alt], Alpine's x-bind:alt.
_ALT = re.compile(r"(.*[:.\[])?alt\]?")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#|<\?|<%|\$\{")
# What these hold is no markup. Newer Pythons know that themselves.
_TEXT_ONLY = {"textarea", "title", "xmp", "iframe", "noembed", "noframes"}
_LAZY = ("data-src", "data-lazy-src", "data-original")


@dataclass(frozen=True, slots=True)
class Gap:
    """A place in a document where an alternative text is missing.

    at: where in the document's text the new text goes. urls: where the picture may be, the likeliest first.
    attribute: whether an HTML attribute is to be written there, or the text alone, as Markdown has it.
    """

    at: int
    urls: tuple[str, ...]
    attribute: bool


def find_gaps(text: str) -> list[Gap]:
    """The <img> of a page, or of a part of one, that have no alt and are no decoration.

    Left alone are those with alt="", aria-hidden or a role that marks them as decoration, and those that a template
    fills in.
    """
    finder = _Finder(text)
    finder.feed(text)
    finder.close()
    return finder.gaps


def is_template(text: str) -> bool:
    """Whether something else will stand here: Jinja, Liquid, Go, PHP, ERB or JavaScript fills it in."""
    return _TEMPLATE.search(text) is not None


class _Finder(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.gaps: list[Gap] = []
        self._base = ""
        self._text_only: str | None = None
        self._text = text
        # Like the tokenizer, which counts line feeds alone.
        self._lines = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag in _TEXT_ONLY:
            self._text_only = self._text_only or tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._text_only:
            return
        values: dict[str, str] = {}
        for name, value in attrs:
            values.setdefault(name, value or "")  # as in browsers, the first one counts
        if tag == "base":
            self._base = self._base or values.get("href", "")
        written = self.get_starttag_text() or ""
        if tag != "img" or _is_described(values) or is_template(written):
            return
        line, column = self.getpos()
        start = self._lines[line - 1] + column
        if self._text.startswith(written, start):
            self.gaps.append(Gap(start + len("<img"), tuple(urljoin(self._base, url) for url in _urls(values)), True))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._text_only:
            self._text_only = None


def _is_described(values: dict[str, str]) -> bool:
    decoration = values.get("role", "").strip().lower() in ("presentation", "none")
    hidden = values.get("aria-hidden", "").strip().lower() == "true"
    return decoration or hidden or any(_ALT.fullmatch(name) for name in values)


def _urls(values: dict[str, str]) -> list[str]:
    """What the picture may be fetched from: a lazy page has its placeholder in src, and others no src at all."""
    found = [values.get(name, "") for name in ("src", *_LAZY)]
    for name in ("srcset", "data-srcset"):
        found += [url.rstrip(",") for url in values.get(name, "").split()[:1]]
    return [url.strip() for url in found if url.strip()]
