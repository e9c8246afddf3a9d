"""The addresses of a collection's pictures: found by path, glob, folder, bucket or prefix, and read one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pyarrow import fs

from captionist.collection.storage import is_url, locate, reason
from captionist.errors import CollectionError, ImageNotFoundError
from captionist.images import ImageLimits, check_bytes, read_file
from captionist.ownfiles import TABLE_MANIFEST
from captionist.paths import absolute
from captionist.sources import find_sources, is_companion


@dataclass(frozen=True, slots=True)
class Address:
    """Where one picture is. name: what the table calls this picture and no other, always valid Unicode. location: its
    URL or its absolute path.
    """

    name: str
    location: str


def find_addresses(arguments: Sequence[str]) -> tuple[list[Address], list[tuple[str, str]]]:
    """Resolve paths, folders, globs and URLs, in order; what is named twice is taken once.

    A URL is one file, or a prefix with everything below it. As in folders, hidden files (any part of the path starts
    with a dot), files that only accompany pictures, and tables are left out. Returns the pictures, and a name and a
    message for whatever leads to none.
    """
    found: dict[str, Address] = {}
    errors: list[tuple[str, str]] = []
    for are_urls, some in groupby(arguments, is_url):
        pictures: list[Address] = []
        if are_urls:
            for url in some:
                try:
                    pictures += [Address(_valid(name), name) for name in _list(url)]
                except CollectionError as error:
                    errors.append((url, str(error).removeprefix(f"{url}: ")))
        else:
            local = find_sources(list(some), lambda: b"")
            errors += local.errors
            pictures = [Address(_valid(one.name), absolute(one.name)) for one in local.sources]
        for picture in pictures:
            found.setdefault(picture.location, picture)
    return list(found.values()), errors


def read(address: Address, limits: ImageLimits) -> bytes:
    """The bytes of a picture. Raises ImageNotFoundError, ImageTooLargeError, NotAnImageError for a video."""
    if not is_url(address.location):
        return read_file(Path(address.location), limits)
    try:
        system, path = locate(address.location)
        with system.open_input_file(path) as file:
            size = file.size()
            data: bytes = file.read(size if size <= limits.max_bytes else 64)  # enough to recognise a video
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
        raise CollectionError(f"{url}: nothing is there: check the address (a URL cannot be a pattern)") from error
    except OSError as error:
        raise CollectionError(
            f"{url}: cannot be listed ({reason(error)}): check the address and the credentials"
        ) from error
    names = sorted(info.path[len(path) :].lstrip("/") for info in below if info.type == fs.FileType.File)
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    tables = tuple(name.removesuffix(TABLE_MANIFEST) for name in names if name.rpartition("/")[2] == TABLE_MANIFEST)
    names = [name for name in names if not name.startswith(tables) and not is_companion(name.rpartition("/")[2])]
    if not names:
        raise CollectionError(f"{url}: it holds no pictures: name a bucket or a prefix with pictures")
    return [f"{url.rstrip('/')}/{name}" for name in names]


def _valid(name: str) -> str:
    """A file name as Unicode, with no two names alike: bytes that are not UTF-8 are written out, as in caf\\xe9.jpg.

    In a name with such bytes, or with text that looks the same, each of its own backslashes is doubled.
    """
    valid = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if "\\x" not in valid:
        return name
    return name.replace("\\", r"\\").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
