"""Walks a tar archive without unpacking it: where each file is in it, and what is wrong with it."""

import os
import tarfile
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from captionist.data.records import Problem
from captionist.images import FilePart

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def walk(path: Path, label: str, problems: list[Problem]) -> Iterator[FilePart]:
    """Yield every file in the archive, in its order; only the headers between them are read.

    What cannot be used is added to `problems`: as "damaged_shard", the rest of an archive from a damaged place on, or
    all of a compressed one; as "bad_member", a link, a sparse file or a name that leads out of the archive. `label` is
    what they call the archive.
    """
    try:
        # A larger buffer would read much of each picture along with its header.
        with path.open("rb", buffering=tarfile.BLOCKSIZE) as file:
            start = file.read(6)
            kind = next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), None)
            if kind:
                detail = f"compressed with {kind}, so no picture can be read by its position: decompress it"
                problems.append(Problem("damaged_shard", label, detail))
                return
            fault = yield from _walk(path, file, label, problems)
    except (tarfile.TarError, OSError) as error:
        fault = f"cannot be read as a tar archive ({error})"
    if fault:
        problems.append(Problem("damaged_shard", label, f"{fault}; fetch or pack it again"))


def _walk(path: Path, file: BinaryIO, label: str, problems: list[Problem]) -> Generator[FilePart, None, str]:
    """Yield the files up to the archive's end or the first fault, which is returned in words."""
    length, place, last = file.seek(0, os.SEEK_END), -1, "its start"
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="backslashreplace") as archive:
        for member in archive:
            if archive.offset <= place:  # a negative length sends tarfile back to where it has been
                return f"damaged after {last}"
            place = archive.offset
            if refusal := _refusal(member):
                problems.append(Problem("bad_member", f"{label}/{member.name}", refusal))
            elif member.isreg():
                if not 0 <= member.size <= length - member.offset_data:
                    return f"cut short inside {member.name}"
                yield FilePart(path, str(PurePosixPath(member.name)), member.offset_data, member.size)
            last = member.name
        # tarfile takes an unreadable or missing header for the end; the true end is a block of zeros.
        file.seek(archive.offset)
        block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        return f"cut short after {last}"
    return f"damaged after {last}" if any(block) else ""


def _refusal(member: tarfile.TarInfo) -> str:
    """Why the member cannot be used; empty if it can."""
    if not member.isreg() and not member.isdir():
        return "not a file: pack what it points to (`tar --dereference --hard-dereference`)"
    if member.issparse():
        return "packed as a sparse file, in pieces: pack it without `--sparse`"
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        return "its name leads out of the archive"
    return ""
