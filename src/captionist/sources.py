"""Finds what the user named on the command line: files, folders, globs and standard input."""

import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from captionist.errors import ImageError, ImageNotFoundError
from captionist.ownfiles import TABLE_LOCK, TABLE_MANIFEST, is_own_file
from captionist.paths import absolute, exists, isdir, isfile

STDIN = "-"

# PDF is not among them: people who keep scans among their pictures should learn that they are not read.
_COMPANIONS = {
    *("xmp", "aae", "thm", "lrv", "pp3", "dop", "cos"),  # what cameras and editors keep beside a picture
    *("mp4", "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg", "mts", "m2ts", "3gp", "wmv", "flv"),
    *("mp3", "m4a", "wav", "aac", "ogg", "opus", "flac", "amr"),
    *("json", "jsonl", "txt", "csv", "tsv", "html", "htm", "md", "yaml", "yml", "toml", "xml", "log", "ini", "db"),
}
_NO_MATCH = "no file matches: check the pattern, the current folder, and the permissions of the folders on the way"


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to caption: its name for the output, and its path or its bytes."""

    name: str
    image: Path | bytes

    @property
    def stem(self) -> str:
        """What a file made from this picture may be called, without an extension."""
        return "stdin" if isinstance(self.image, bytes) else self.image.stem


@dataclass(slots=True)
class Found:
    """The pictures to caption, in order, and the names that lead to none."""

    sources: list[Source] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    """A name and what is wrong with it."""
    own: list[str] = field(default_factory=list)
    """Skipped, because this program wrote it or is writing it."""
    skipped: int = 0
    """How many files in folders were skipped because they are clearly not pictures."""


def is_companion(name: str) -> bool:
    """Whether a file's name says that it is not a picture: hidden files, videos, sidecars, texts."""
    return name.startswith(".") or PurePath(name).suffix.lower()[1:] in _COMPANIONS


def find_sources(
    arguments: Sequence[str],
    read_stdin: Callable[[], bytes] | str,
    skips: Callable[[str], bool] = is_companion,
    wanted: str = "pictures",
) -> Found:
    """Resolve arguments in order; a file that is named twice, or also lies in a named folder, is taken once.

    A folder gives its files, including those in sub-folders, sorted by name. Hidden folders are left out, and so are
    files whose names `skips` is true for; the latter are counted. A name with *, ? or [ that is not a file itself is a
    glob, in which ** crosses folders; as with the shell's globs, whatever it matches counts as named. `-` is the bytes
    of one picture from `read_stdin`, which is called at most once and may raise ImageError; if it is a text, it says
    why standard input is not read. What Captionist wrote (sheets, tables, indexes, and the current output) is skipped,
    so that a command can be repeated. wanted: what messages call the files.
    """
    found = Found()
    seen: set[str] = set()
    outputs = _outputs()

    def add(name: str) -> None:
        key = absolute(name)
        if key not in seen:
            seen.add(key)
            if _is_own(name, outputs):
                found.own.append(name)
            else:
                found.sources.append(Source(name, Path(name)))

    def add_path(name: str) -> None:
        if not isdir(name):
            add(name)
            return
        known = len(found.errors) + len(found.own)
        files = list(_files(name, found, skips))
        if not files and len(found.errors) + len(found.own) == known:
            found.errors.append((name, f"the folder holds no {wanted}: name one with {wanted}"))
        for file in files:
            add(file)

    for argument in arguments:
        if not argument:
            found.errors.append((argument, "the path is empty: name a file, a folder or a glob"))
        elif argument == STDIN:
            if STDIN not in seen:
                seen.add(STDIN)
                try:
                    if isinstance(read_stdin, str):
                        raise ImageNotFoundError(read_stdin)
                    found.sources.append(Source(STDIN, read_stdin()))
                except ImageError as error:
                    found.errors.append((STDIN, str(error)))
        elif glob.has_magic(argument) and not exists(argument):
            matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # the pattern may be absolute
            if not matches:
                found.errors.append((argument, _NO_MATCH))
            for match in matches:
                add_path(match)
        else:
            add_path(argument)
    if found.own and not found.sources and not found.errors:
        found.errors += [(name, f"captionist wrote this itself: name {wanted}") for name in found.own]
    return found


def _files(folder: str, found: Found, skips: Callable[[str], bool]) -> Iterator[str]:
    """The files of a folder, depth first and sorted. Links to folders are not followed: they may form a circle."""

    def unreadable(error: OSError) -> None:
        message = f"the folder cannot be read ({error.strerror}): check its permissions"
        found.errors.append((str(error.filename), message))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        if TABLE_MANIFEST in names or TABLE_LOCK in names:
            folders.clear()
            found.own.append(parent)
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(parent, name)  # noqa: PTH118  # a Path would drop the ./ that the user wrote
            if _would_wait(path):
                continue
            if skips(name):
                found.skipped += 1
            else:
                yield path


def _would_wait(path: str) -> bool:
    """Whether it is a pipe or a socket, which would wait for a writer forever. A path that cannot be seen is neither,
    and so gets its error line.
    """
    return exists(path) and not isfile(path)


def _outputs() -> set[tuple[int, int]]:
    """The files that standard output and standard error are written to, if any."""
    found = set()
    for descriptor in (1, 2):
        with suppress(OSError):  # closed
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                found.add((status.st_dev, status.st_ino))
    return found


def _is_own(name: str, outputs: Set[tuple[int, int]]) -> bool:
    try:
        status = os.stat(name)  # noqa: PTH116
    except (OSError, ValueError):
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    return (status.st_dev, status.st_ino) in outputs or is_own_file(name)
