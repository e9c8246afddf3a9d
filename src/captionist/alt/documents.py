"""Documents: read, with the gaps in them, and filled in, keeping every other byte.

A picture that is used twice is described once.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

from captionist.alt import html, markdown
from captionist.alt.html import Gap
from captionist.errors import DocumentError
from captionist.files import replacing
from captionist.paths import absolute, exists, isfile

_HTML, _MARKDOWN = {".html", ".htm", ".xhtml"}, {".md", ".markdown"}
_MOST = 2_000_000  # bytes
_MOST_UNCLOSED = 5_000  # tags: html.parser looks through the whole rest of the page for the end of each
# In Markdown they would begin or end something.
_MARKS = re.compile(r"([\\\[\]*_`<&])")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class Document:
    """A page, with where it lacks alternative texts. name: as it was given. root: the folder that /paths begin in."""

    name: str
    root: Path
    data: bytes
    gaps: tuple[Gap, ...]

    def line(self, gap: Gap) -> int:
        """The number of the line that a gap is on."""
        return _text(self.data).count("\n", 0, gap.at) + 1

    def picture(self, gap: Gap) -> Path | None:
        """The first file that a gap's picture may be; None if it is somewhere else: on the web, in a data: URI."""
        for url in gap.urls:
            try:
                parts = urlsplit(url)
            except ValueError:
                continue
            path = unquote(parts.path, errors="surrogateescape")
            if parts.scheme or parts.netloc or not path or "\0" in path or html.is_template(path):
                continue
            return self.root / path.lstrip("/") if path.startswith("/") else Path(self.name).parent / path
        return None

    def filled(self, texts: Mapping[Gap, str]) -> bytes:
        """The document with these texts in its gaps."""
        text, parts, done = _text(self.data), list[str](), 0
        for gap in sorted(texts, key=lambda gap: gap.at):
            parts += text[done : gap.at], _written(texts[gap], gap.attribute)
            done = gap.at
        return "".join([*parts, text[done:]]).encode("utf-8", "surrogateescape")

    def diff(self, filled: bytes) -> bytes:
        """The change to `filled`, as `patch -p1` and `git apply` read it."""
        name = PurePath(self.name).as_posix().lstrip("/")
        if " " in name:
            name += "\t"  # which ends it
        old, new = (_LINE.findall(_text(data)) for data in (self.data, filled))
        lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
        whole = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
        return "".join(whole).encode("utf-8", "surrogateescape")

    def replace(self, filled: bytes) -> None:
        """Write the file. Raises DocumentError, also if it has changed since it was read."""
        path = Path(self.name)
        try:
            same = path.read_bytes() == self.data
        except OSError:
            same = False
        if not same:
            raise DocumentError(
                "it was changed while its pictures were being described, so it was not written: run again"
            )
        with replacing(path, DocumentError) as file:
            file.write(filled)


def is_document(name: str) -> bool:
    """Whether a file's name says that it is a page of HTML or Markdown."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in _HTML | _MARKDOWN


def read_document(name: str, root: Path) -> Document:
    """Raises DocumentError for what cannot be read, or is neither HTML nor Markdown."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in _HTML | _MARKDOWN:
        raise DocumentError("this is not a page: name .html or .md files, or folders that hold some")
    try:
        if not isfile(name):  # a pipe would be waited for
            raise DocumentError("there is no such file: check the path")
        with open(name, "rb") as file:  # noqa: PTH123
            data = file.read(_MOST + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}): check its permissions") from error
    if len(data) > _MOST:
        raise DocumentError(f"it is larger than {_MOST:,} bytes: split it up")
    if b"\0" in data:
        raise DocumentError("it is not text in UTF-8 or an older encoding: save it as UTF-8")
    if data.count(b"<") - data.count(b">") > _MOST_UNCLOSED:
        raise DocumentError(f"more than {_MOST_UNCLOSED:,} tags are never closed: fix its markup")
    try:
        gaps = (html if suffix in _HTML else markdown).find_gaps(_text(data))
    except (ValueError, AssertionError, RecursionError) as error:  # of the parsers, for what they cannot make out
        raise DocumentError(f"it cannot be parsed ({error}): fix its markup") from error
    return Document(name, root, data, tuple(gaps))


@dataclass(slots=True, eq=False)
class Picture:
    """A file, and where it is used without an alternative text, at least once."""

    image: Path
    uses: list[tuple[Document, Gap]] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The first of them, such as "site/index.html:12"."""
        document, gap = self.uses[0]
        return f"{document.name}:{document.line(gap)}"

    @property
    def can_be_opened(self) -> bool:
        """Whether it is neither a pipe nor a folder; a missing file has its own error."""
        return isfile(self.image) or not exists(self.image)


def gather(documents: Iterable[Document]) -> tuple[list[Picture], int]:
    """The pictures in the order of their first uses, and how many gaps have a picture that is no file here."""
    pictures: dict[str, Picture] = {}
    elsewhere = 0
    for document in documents:
        for gap in document.gaps:
            if (path := document.picture(gap)) is None:
                elsewhere += 1
            else:
                pictures.setdefault(absolute(path), Picture(path)).uses.append((document, gap))
    return list(pictures.values()), elsewhere


def root_of(document: str, arguments: Sequence[str]) -> Path:
    """The folder among the arguments that a document lies in, or else its own: where a site's /paths begin."""
    for argument in arguments:
        if absolute(document).startswith(os.path.join(absolute(argument), "")):  # noqa: PTH118
            return Path(argument)
    return Path(document).parent


def _text(data: bytes) -> str:
    """Bytes that are not UTF-8 become what they were when this is encoded again."""
    return data.decode("utf-8", "surrogateescape")


def _written(text: str, attribute: bool) -> str:
    """In ASCII for HTML, whatever the page's encoding."""
    if not attribute:
        return _MARKS.sub(r"\\\1", text)
    quoted = escape(text, quote=False).replace('"', "&quot;")
    return f' alt="{quoted.encode("ascii", "xmlcharrefreplace").decode("ascii")}"'
