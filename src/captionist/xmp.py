"""Reads a picture's description in XMP, and sets it without touching any other byte.

Expat says where each element is, and new bytes are inserted there: writing a parsed tree would lose quotes and white
space. Document types are refused: XMP has none, and without them no entity can expand or read files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from xml.parsers import expat

_RDF, _DC = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://purl.org/dc/elements/1.1/"
_OURS = "captionist:ns:1.0/"
"""The namespace of `caption`, which holds what we wrote: a description that says the same is ours."""
_LANG, _DEFAULT = ("http://www.w3.org/XML/1998/namespace", "lang"), "x-default"
_SEPARATOR = "\n"  # which a namespace cannot hold

_TAG = re.compile(rb"""<(?P<name>[^\s/>]+)(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_ATTRIBUTE = re.compile(rb"""\s+(?P<name>[^\s=]+)\s*=\s*(?P<value>"[^"]*"|'[^']*')""")

EMPTY = (
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Captionist">\n <rdf:RDF xmlns:rdf="{_RDF}">\n'
    '  <rdf:Description rdf:about=""/>\n </rdf:RDF>\n</x:xmpmeta>\n'
).encode()

Name = tuple[str, str]
"""A namespace and what follows the colon."""
Edit = tuple[int, int, bytes]
"""Where it begins and ends, and the replacement."""


@dataclass(slots=True)
class _Element:
    name: Name
    attributes: dict[Name, tuple[str, bytes]]
    """Each value, and the name as written."""
    start: int
    inside: int
    """Where its start tag ends, in bytes."""
    end: int = 0
    """Where its end tag begins; for an empty element, where its tag ends."""
    text: str = ""
    children: list["_Element"] = field(default_factory=list)

    def all(self, *name: str) -> Iterator["_Element"]:
        return (child for child in self.children if child.name == name)

    def first(self, *name: str) -> "_Element | None":
        return next(self.all(*name), None)

    def whole_text(self) -> str:
        return self.text + "".join(child.whole_text() for child in self.children)


class Xmp:
    """The bytes of a sidecar, or of a packet in a picture.

    description: its text in the default language, else in another, else None. is_ours: whether we wrote it and nobody
    has changed it since.
    """

    def __init__(self, data: bytes) -> None:
        """Raises ValueError if this is not XMP."""
        self._data = data
        rdf = _find_rdf(_parse(data))
        blocks = list(rdf.all(_RDF, "Description"))
        self._top = blocks[0] if blocks else rdf
        self._element = next((one for block in blocks for one in block.all(_DC, "description")), None)
        self._with_attribute = next((block for block in blocks if (_DC, "description") in block.attributes), None)
        self._marker = next((one for block in blocks for one in block.all(_OURS, "caption")), None)
        self._marked = next((block for block in blocks if (_OURS, "caption") in block.attributes), None)
        self._alternatives = self._element and self._element.first(_RDF, "Alt")
        items = list(self._alternatives.all(_RDF, "li")) if self._alternatives else []
        self._item = next((one for one in items if one.attributes.get(_LANG, ("",))[0] == _DEFAULT), None)

        default = self._item.text.strip() if self._item else ""
        texts = [default, self._element.whole_text().strip() if self._element else ""]
        if self._with_attribute:
            texts.append(self._with_attribute.attributes[_DC, "description"][0].strip())
        self.description = next(filter(None, texts), None)
        written = self._marker.text if self._marker else None
        if self._marked:
            written = self._marked.attributes[_OURS, "caption"][0]
        self.is_ours = bool(default) and written is not None and written.strip() == default

    def describe(self, caption: str) -> bytes:
        """The same bytes with the caption as the description in the default language, marked as ours. It is added in
        ASCII, which is right in every encoding that Expat reads except UTF-16."""
        text = escape(caption, quote=False).replace('"', "&quot;").encode("ascii", "xmlcharrefreplace")
        item = b'<rdf:li xml:lang="x-default">' + text + b"</rdf:li>"
        alternatives = f'<rdf:Alt xmlns:rdf="{_RDF}">'.encode() + item + b"</rdf:Alt>"
        edits, new = list[Edit](), list[bytes]()
        if self._item:
            edits.append(self._filled(self._item, text))
        elif self._alternatives:
            bound = item.replace(b"<rdf:li", f'<rdf:li xmlns:rdf="{_RDF}"'.encode())
            edits.append(self._with_first(self._alternatives, bound))
        elif self._element:
            edits.append(self._filled(self._element, alternatives))
        else:
            new.append(f'<dc:description xmlns:dc="{_DC}">'.encode() + alternatives + b"</dc:description>")
        if self._with_attribute:
            edits.append((*self._attribute(self._with_attribute, (_DC, "description"))[0], b""))
        if self._marker:
            edits.append(self._filled(self._marker, text))
        elif self._marked:
            edits.append((*self._attribute(self._marked, (_OURS, "caption"))[1], b'"' + text + b'"'))
        else:
            new.append(f'<captionist:caption xmlns:captionist="{_OURS}">'.encode() + text + b"</captionist:caption>")
        if new:
            edits.append(self._with_first(self._top, *self._in_a_block(new)))
        data = self._data
        for start, end, replacement in sorted(edits, reverse=True):
            data = data[:start] + replacement + data[end:]
        return data

    def _in_a_block(self, new: list[bytes]) -> list[bytes]:
        if self._top.name != (_RDF, "RDF"):
            return new
        block = f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about="">'.encode()
        return [block + b"".join(new) + b"</rdf:Description>"]

    def _filled(self, element: _Element, content: bytes) -> Edit:
        """Make this the element's only content."""
        tag = self._data[element.start : element.inside]
        if not tag.endswith(b"/>"):
            return element.inside, element.end, content
        name = _TAG.match(tag)
        assert name is not None
        return element.inside - 2, element.inside, b">" + content + b"</" + name["name"] + b">"

    def _with_first(self, element: _Element, *new: bytes) -> Edit:
        """Put these first in the element, each on its own line, indented by one more than the element."""
        before = self._data[: element.start]
        indent = before[before.rfind(b"\n") + 1 :]
        indent = indent if not indent.strip() else b""
        newline = b"\r\n" if b"\r\n" in self._data else b"\n"
        lines = b"".join(newline + indent + b" " + one for one in new)
        if self._data[element.start : element.inside].endswith(b"/>"):
            return self._filled(element, lines + newline + indent)
        return element.inside, element.inside, lines

    def _attribute(self, element: _Element, name: Name) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where an attribute is, with the space before it, and where its value is, with its quotes."""
        tag = _TAG.match(self._data, element.start)
        assert tag is not None
        written = element.attributes[name][1]
        for found in _ATTRIBUTE.finditer(self._data, tag.end("name"), tag.end()):
            if found["name"] == written:
                return found.span(), found.span("value")
        raise ValueError("an attribute that the parser saw is not there")


def _find_rdf(root: _Element) -> _Element:
    rdf = root if root.name == (_RDF, "RDF") else root.first(_RDF, "RDF")
    if rdf is None:
        raise ValueError("it holds no rdf:RDF")
    return rdf


def _parse(data: bytes) -> _Element:
    """The outermost element. Raises ValueError."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:64]:
        raise ValueError("it is UTF-16 or UTF-32, not UTF-8")
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.namespace_prefixes = True
    outermost = _Element(("", ""), {}, 0, 0)
    open_ones = [outermost]

    def start(name: str, attributes: dict[str, str]) -> None:
        place = parser.CurrentByteIndex
        tag = _TAG.match(data, place)
        if tag is None:
            raise ValueError("an element does not stand where the parser saw it")
        named = {_name(key)[0]: (value, _name(key)[1]) for key, value in attributes.items()}
        element = _Element(_name(name)[0], named, place, tag.end())
        open_ones[-1].children.append(element)
        open_ones.append(element)

    def end(_name: str) -> None:
        open_ones.pop().end = parser.CurrentByteIndex

    def characters(text: str) -> None:
        open_ones[-1].text += text

    def doctype(*_: object) -> None:
        raise ValueError("it has a document type, which XMP does not allow")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = characters, doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is damaged: {error}") from error
    return outermost.children[0]


def _name(written: str) -> tuple[Name, bytes]:
    """A name as Expat gives it: namespace, name and prefix; only the name is always there."""
    parts = written.split(_SEPARATOR)
    if len(parts) == 1:
        return ("", parts[0]), parts[0].encode()
    return (parts[0], parts[1]), ":".join([*parts[2:], parts[1]]).encode()
