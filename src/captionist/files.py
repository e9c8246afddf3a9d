"""Files that people care about, replaced as a whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from captionist.errors import CaptionistError


@contextmanager
def replacing(path: Path, failure: type[CaptionistError] = CaptionistError) -> Iterator[BinaryIO]:
    """Yield a file to write; once complete, it takes this name and the permissions of the file that it replaces.

    For a link, its target is replaced. Raises `failure` if that fails; the old file is then unchanged.
    """
    part = path.with_name(f".captionist-{os.getpid()}.part")  # a name that is never too long
    try:
        path = path.resolve()
        part = path.with_name(part.name)
        if path.exists() and not os.access(path, os.W_OK):  # a rename would not care
            raise PermissionError(None, "it is read-only")
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copystat(path, part)
            os.utime(part)
            status = path.stat()
            with suppress(OSError, LookupError, AttributeError):  # only root may, and Windows cannot
                shutil.chown(part, status.st_uid, status.st_gid)
        part.replace(path)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link to itself
        reason = getattr(error, "strerror", None) or str(error)
        raise failure(f"{path} cannot be written ({reason}): check its permissions, or name another file") from error
    finally:
        with suppress(OSError):
            part.unlink()
