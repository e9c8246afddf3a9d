"""Unpacks an untrusted zip file: nothing lands outside, nothing grows without limit, a second run continues."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from captionist.data.download import PARTIAL, Report, silent
from captionist.errors import DataError

_ENCRYPTED = 0x1


class DamagedArchiveError(DataError):
    """The archive's bytes are not those that were packed."""


def unpack(
    archive: Path,
    folder: Path,
    *,
    members: Sequence[str] = ("*",),
    at_most: int,
    report: Report = silent,
) -> int:
    """Unpack the members that match into `folder`; returns how many were written.

    A file that exists with the right length is left alone, and a file gets its name only when its CRC is right, so that
    an interrupted run can continue. What macOS adds (`__MACOSX/`, hidden files) is left out.

    Args:
        archive: a zip file.
        folder: made if it does not exist.
        members: patterns (fnmatch, over the whole name) of the files to unpack.
        at_most: bytes that all of them together may take.
        report: called with the bytes done and the total.

    Raises:
        DamagedArchiveError: not a zip file, cut short, or a CRC is wrong.
        DataError: a name would leave the folder, a member is a link, encrypted or packed in an unknown way, nothing
            matches, they take more than `at_most` or than the disk has, or cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            chosen = _chosen(archive, opened, members)
            total = sum(member.file_size for member in chosen)
            if total > at_most:
                raise DataError(f"{archive}: would unpack to {total:,} bytes; at most {at_most:,} were expected.")
            missing = [member for member in chosen if not _is_there(folder / member.filename, member.file_size)]
            need = sum(member.file_size for member in missing)
            folder.mkdir(parents=True, exist_ok=True)
            check_room(folder, need)
            done = total - need
            report("unpacking", done, total)
            for member in missing:
                _write(opened, member, folder / member.filename)
                done += member.file_size
                report("unpacking", done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise DamagedArchiveError(f"{archive}: damaged ({error}).") from error
    except NotImplementedError as error:  # raised by zipfile for features that it lacks
        raise DataError(f"{archive}: cannot be unpacked ({error}).") from error
    except OSError as error:
        where, why = error.filename or folder, error.strerror
        raise DataError(f"{where}: cannot be written ({why}). Fix that, and run again to continue.") from error
    return len(missing)


def check_room(folder: Path, need: int) -> None:
    """Check that the disk has room before anything is written.

    Args:
        folder: a directory, which need not exist yet.
        need: bytes.

    Raises:
        DataError: it has not; the message has both figures.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if need > free:
        raise DataError(
            f"{folder}: {need:,} bytes are needed, {free:,} are free. Make room, or name another directory."
        )


def _chosen(archive: Path, opened: zipfile.ZipFile, patterns: Sequence[str]) -> list[zipfile.ZipInfo]:
    chosen: dict[str, zipfile.ZipInfo] = {}
    for member in opened.infolist():
        name = member.filename
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
            raise DataError(f"{archive}: {name!r} would be written outside of its folder; nothing was unpacked.")
        if member.is_dir() or any(part == "__MACOSX" or part[0] == "." for part in parts):
            continue
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{archive}: {name!r} is a link; nothing was unpacked.")
        if member.flag_bits & _ENCRYPTED:
            raise DataError(f"{archive}: {name!r} is encrypted; nothing was unpacked.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{archive}: {name!r} is packed in an unusual way; nothing was unpacked.")
        path = "/".join(parts)
        if path in chosen:
            raise DataError(f"{archive}: {name!r} is in it twice; nothing was unpacked.")
        chosen[path] = member
    if not chosen:
        raise DataError(f"{archive}: holds none of {', '.join(patterns)}.")
    return list(chosen.values())


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + PARTIAL)
    # zipfile reads no more than the declared length, and then raises if the CRC is not right.
    with opened.open(member) as packed, partial.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 18)
    partial.replace(target)
