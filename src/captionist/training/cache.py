"""Computes expensive things once and keeps them on disk: arrays as memory-mapped files, records as JSON."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from captionist.data import Example
from captionist.errors import TrainingError
from captionist.system import take_room

_logger = logging.getLogger(__name__)


def pictures_key(examples: Sequence[Example], resolution: int) -> str:
    """Names these pictures at this resolution; a changed file gives another name."""
    digest = hashlib.sha256(str(resolution).encode())
    for example in examples:
        try:
            status = example.image.stat()
            size, modified = status.st_size, status.st_mtime_ns
        except OSError:  # it will be reported as unreadable
            size = modified = -1
        digest.update(f"{example.image.resolve()} {size} {modified}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def open_array(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...], fill: Callable[[NDArray[Any]], None]
) -> NDArray[Any]:
    """The array in that file, memory-mapped; made and filled first if it does not exist yet.

    Raises TrainingError if there is no room for it.
    """

    def write(partial: Path) -> None:
        array = np.lib.format.open_memmap(partial, "w+", dtype, shape)
        take_room(partial)
        fill(array)
        array.flush()

    stored: NDArray[Any] = np.load(_kept(path, write), mmap_mode="r")
    return stored


def open_record(path: Path, make: Callable[[], Any]) -> Any:
    """The content of that JSON file; made first if it does not exist yet. Raises as `open_array`."""
    _kept(path, lambda partial: partial.write_text(json.dumps(make()), encoding="utf-8"))
    return json.loads(path.read_text(encoding="utf-8"))


def _kept(path: Path, write: Callable[[Path], object]) -> Path:
    """The file, written first if it does not exist. If several runs want it, one writes it and the others wait.

    It gets its name only when it is complete, so a killed run leaves no half-written file.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if not path.exists():
                _logger.info("filling %s", path)
                try:
                    write(partial)
                    partial.rename(path)
                finally:
                    partial.unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror}): see data.cache.") from error
    return path
