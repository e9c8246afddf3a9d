"""Files that people care about, replaced as a whole or not at all."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from captionist.errors import CaptionistError


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, keeping the permissions of the one that is there; behind a link, what the link leads to.

    Raises CaptionistError where that fails; the file is then as it was.
    """
    part = path.with_name(f".captionist-{os.getpid()}.part")  # a name that is never too long
    try:
        path = path.resolve()
        part = path.with_name(part.name)
        if path.exists() and not os.access(path, os.W_OK):  # which a rename would not care about
            raise PermissionError(None, "it is read-only")
        with part.open("wb") as file:
            file.write(data)
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
        raise CaptionistError(f"{path} cannot be written ({reason}): check its permissions") from error
    finally:
        with suppress(OSError):
            part.unlink()
