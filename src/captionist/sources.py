"""What the user named on the command line, found: files, folders, globs and standard input."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captionist.errors import ImageError

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to caption: its name for the output, and its path or its bytes."""

    name: str
    image: Path | bytes

    @property
    def stem(self) -> str:
        """What a file made from this picture may be called, without an extension."""
        return "stdin" if isinstance(self.image, bytes) else self.image.stem

    def message(self, error: ImageError) -> str:
        """What an error of this picture says, without the name that `images.decode` puts before it."""
        label = "<bytes>" if isinstance(self.image, bytes) else str(self.image)
        return str(error).removeprefix(f"{label}: ")


@dataclass(slots=True)
class Found:
    """The pictures to caption, in order, and what was named but leads to none."""

    sources: list[Source] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    """A name and what is wrong with it."""


def find_sources(arguments: Sequence[str], read_stdin: Callable[[], bytes]) -> Found:
    """Resolve arguments in order; a file that is named twice, or in a folder too, is taken once.

    A folder gives all its files, sub-folders included, sorted by name, without hidden ones (a name that starts with a
    dot). A name with *, ? or [ that is not a file itself is a glob, where ** crosses folders. `-` is the bytes of one
    picture from `read_stdin`, which is called at most once; it may raise ImageError.
    """
    found = Found()
    seen: set[str] = set()

    def add(name: str) -> None:
        key = name if name == STDIN else os.path.abspath(name)  # noqa: PTH100  # resolve() would follow links
        if key not in seen:
            seen.add(key)
            found.sources.append(Source(name, read_stdin() if name == STDIN else Path(name)))

    def add_path(name: str) -> None:
        if not Path(name).is_dir():
            add(name)
            return
        known = len(found.errors)
        files = list(_files(name, found.errors))
        if not files and len(found.errors) == known:
            found.errors.append((name, "the folder holds no files: name one with pictures"))
        for file in files:
            add(file)

    for argument in arguments:
        if not argument:
            found.errors.append((argument, "the path is empty: name a picture, a folder or a glob"))
        elif argument == STDIN:
            try:
                add(STDIN)
            except ImageError as error:
                found.errors.append((STDIN, str(error)))
        elif glob.has_magic(argument) and not Path(argument).exists():
            matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # the pattern may be absolute
            if not matches:
                found.errors.append((argument, "no file matches: check the pattern and the current folder"))
            for match in matches:
                add_path(match)
        else:
            add_path(argument)
    return found


def _files(folder: str, errors: list[tuple[str, str]]) -> Iterator[str]:
    """The files of a folder, depth first and sorted. Links to folders are not followed, since they may go round."""

    def unreadable(error: OSError) -> None:
        errors.append((str(error.filename), f"the folder cannot be read ({error.strerror}): check its permissions"))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            # Pipes and sockets would wait for a writer for ever; a dangling link is worth its error line.
            if not name.startswith(".") and (path.is_file() or path.is_symlink()):
                yield os.path.join(parent, name)  # noqa: PTH118  # a Path would drop the ./ that the user wrote
