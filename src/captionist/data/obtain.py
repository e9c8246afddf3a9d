"""Puts a corpus from the catalogue into a directory: disk space, download, checks, unpacking, archive by archive."""

from pathlib import Path

from captionist.data.catalogue import Archive, Source, through
from captionist.data.download import PARTIAL, PAUSE, Report, digest, fetch, silent
from captionist.data.unpack import DamagedArchiveError, check_room, unpack
from captionist.errors import DataError

DOWNLOADS = "downloads"
"""The folder for the archives, below the corpus's directory."""
_BOMB = 4


def bytes_needed(source: Source, directory: Path) -> int:
    """About how many more bytes of disk a corpus needs, after what an earlier run has brought."""
    need = 0
    for archive in source.archives:
        target = directory / DOWNLOADS / archive.name
        partial = target.with_name(target.name + PARTIAL)
        if not target.exists():
            have = partial.stat().st_size if partial.exists() else 0
            need += max((archive.size or archive.download_about) - have, 0) + archive.unpacked_about
    return need  # for an archive that is already here, the rest is counted exactly when it is unpacked


def prepare(source: Source, directory: Path) -> None:
    """Make the directory, and check that there is room for everything, before anything is downloaded.

    Raises:
        DataError: there is no room, or the directory cannot be made.
    """
    check_room(directory, bytes_needed(source, directory))
    try:
        (directory / DOWNLOADS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: cannot be made ({error.strerror}); name another directory.") from error


def obtain(
    archive: Archive,
    directory: Path,
    *,
    mirror: str | None = None,
    pause: float = PAUSE,
    report: Report = silent,
) -> None:
    """Download one archive and unpack it; what an earlier run has done is not repeated.

    If no checksum is published, the SHA-256 of the archive is written next to it, in the format of sha256sum, once it
    is unpacked without fault; a later run compares with it.

    Raises:
        DataError: as `fetch` and `unpack`; or the archive differs from what an earlier run found.
        ValueError: as `through`.
    """
    target = directory / DOWNLOADS / archive.name
    record = target.with_name(target.name + ".sha256")
    named: Report = lambda step, done, total: report(f"{step} {archive.name}", done, total)  # noqa: E731
    try:
        fetch(
            through(mirror, archive.url),
            target,
            size=archive.size,
            checksum=archive.checksum or _found_before(record),
            pause=pause,
            report=named,
        )
        unpack(
            target,
            directory / archive.folder,
            members=archive.members,
            at_most=_BOMB * archive.unpacked_about,
            report=named,
        )
        if archive.checksum is None and not record.exists():
            record.write_text(f"{digest(target, 'sha256', named)}  {archive.name}\n", encoding="utf-8")
    except DamagedArchiveError as error:
        if archive.checksum is not None:  # the bytes are as published, and another download would bring the same
            raise
        target.unlink()
        raise DataError(f"{error} It was deleted: run again, or use another --mirror.") from error
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}. Fix that, and run again to continue.") from error


def _found_before(record: Path) -> str | None:
    if not record.exists():
        return None
    return f"sha256:{record.read_text(encoding='utf-8').split(' ')[0]}"
