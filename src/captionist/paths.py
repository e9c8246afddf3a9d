"""Questions about paths that have an answer for every path.

Until Python 3.14, `Path.is_dir` and its like raise an OSError for a name that is too long, or for a path in a folder
that may not be entered. Here such a path leads nowhere, and `obstacle` says why.
"""

import os
from os.path import exists, isdir, isfile

__all__ = ["absolute", "exists", "isdir", "isfile", "obstacle"]

Name = str | os.PathLike[str]


def obstacle(path: Name) -> str | None:
    """What keeps us from seeing whether a path is there, such as "Permission denied"; None if nothing does."""
    try:
        os.stat(path)  # noqa: PTH116  # for names too
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a null byte
        return getattr(error, "strerror", None) or str(error)
    return None


def absolute(path: Name) -> str:
    """The path from the root, with links left as they are (`Path.resolve` would follow them).

    If the current folder has been deleted, the path is returned as it was given.
    """
    try:
        return os.path.abspath(path)  # noqa: PTH100
    except FileNotFoundError:
        return os.fspath(path)
