"""The pictures of a collection: found by path, glob, folder, bucket or prefix, and read one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from captionist.collection.storage import absolute, is_url, locate, reason
from captionist.errors import CollectionError, ImageNotFoundError
from captionist.images import ImageLimits, check_bytes, read_file
from captionist.sources import find_sources


@dataclass(frozen=True, slots=True)
class Reference:
    """One picture. name: what the table calls it, always valid Unicode. location: its URL or its absolute path."""

    name: str
    location: str


def find_references(arguments: Sequence[str]) -> tuple[list[Reference], list[tuple[str, str]]]:
    """Resolve paths, folders, globs and URLs, in order; what is named twice is taken once.

    A URL is one file, or a prefix with all below it, hidden files (a part that starts with a dot) left out as in
    folders. Returns the pictures, and a name and message for whatever leads to none.
    """
    found: dict[str, Reference] = {}
    errors: list[tuple[str, str]] = []
    for argument in arguments:
        if is_url(argument):
            try:
                names = _list(argument)
            except CollectionError as error:
                errors.append((argument, str(error).removeprefix(f"{argument}: ")))
                continue
            pictures = [Reference(_valid(name), name) for name in names]
        else:
            local = find_sources([argument], lambda: b"")
            errors += local.errors
            pictures = [Reference(_valid(one.name), absolute(one.name)) for one in local.sources]
        for picture in pictures:
            found.setdefault(picture.location, picture)
    return list(found.values()), errors


def read(reference: Reference, limits: ImageLimits) -> bytes:
    """The bytes of a picture. Raises ImageNotFoundError, ImageTooLargeError, NotAnImageError for a film."""
    if not is_url(reference.location):
        return read_file(Path(reference.location), limits)
    try:
        system, path = locate(reference.location)
        with system.open_input_file(path) as file:
            size = file.size()
            data: bytes = file.read(size if size <= limits.max_bytes else 64)  # what a film can be told by
            check_bytes(size, limits, data)
            return data
    except (OSError, CollectionError) as error:
        raise ImageNotFoundError(f"cannot be read ({reason(error)}); check the address and the credentials") from error


def _list(url: str) -> list[str]:
    """The URLs of all files below one, or itself if it is a file. Raises CollectionError."""
    system, path = locate(url)
    try:
        if path and system.get_file_info(path).type == fs.FileType.File:
            return [url]
        below = system.get_file_info(fs.FileSelector(path, recursive=True))
    except FileNotFoundError as error:
        raise CollectionError(f"{url}: nothing is there: check the address (it is no pattern)") from error
    except OSError as error:
        raise CollectionError(
            f"{url}: cannot be listed ({reason(error)}): check the address and the credentials"
        ) from error
    names = sorted(info.path[len(path) :].lstrip("/") for info in below if info.type == fs.FileType.File)
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    if not names:
        raise CollectionError(f"{url}: it holds no files: name a bucket or a prefix with pictures")
    return [f"{url.rstrip('/')}/{name}" for name in names]


def _valid(name: str) -> str:
    """A file name as Unicode: bytes of it that are not UTF-8 are written out, as in caf\\xe9.jpg."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
