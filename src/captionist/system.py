"""What some operating systems lack. Only this module uses it, so that the package works without it, too."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_M_ARENA_MAX = -8  # of glibc's malloc.h
_PIECE = 1 << 20


def schedulable_cores() -> int:
    """Cores that this process may be scheduled on; where the system does not tell, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def take_room(path: Path) -> None:
    """Reserve all the disk space that a new file of zeros needs: when a disk fills up, processes that write to mapped
    memory are killed.

    Raises OSError if there is too little.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        for start in range(0, size, _PIECE):
            file.write(bytes(min(_PIECE, size - start)))


def raise_file_limit() -> None:
    """Raise the limit on open files: each connection is one, and the usual 1,024 are soon used up."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 65536), hard), hard))


def share_heaps() -> None:
    """Let glibc's malloc keep two heaps, instead of at least one per thread that keeps all its thread once needed."""
    with suppress(AttributeError, TypeError, OSError):  # another C library has no such setting
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
