"""What is missing in the documents of a site, by picture: one that is used twice is described once."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captionist.alt.documents import Document
from captionist.alt.gaps import Gap
from captionist.paths import absolute, exists, isfile


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
        """Whether it is no pipe and no folder; what is not there at all has an error of its own."""
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
