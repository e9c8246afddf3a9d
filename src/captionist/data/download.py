"""Downloads one file over HTTP: resumed where it broke off, retried, and checked before it gets its name."""

import errno
import hashlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from captionist.errors import DataError

Report = Callable[[str, int, int | None], None]
"""Is told the step ("downloading", "checking", "unpacking"), the bytes done, and of how many, where that is known. What
is done may become less."""


def silent(_step: str, _done: int, _total: int | None) -> None:
    """A Report that does nothing."""


PARTIAL = ".partial"
ATTEMPTS = 5
PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_CHUNK = 1 << 18
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may change in a moment."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _BrokenError(Exception):
    """The connection, not the file: worth another attempt."""


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    attempts: int = ATTEMPTS,
    pause: float = PAUSE,
    timeout: float = 30.0,
    report: Report = silent,
) -> None:
    """Download `url` to `target`; what has come so far is kept in `target` + ".partial" and continued from there.

    A file that is there already is only checked. Proxies are those of the environment; certificates are verified.

    Args:
        url: an http or https address; redirects are followed.
        target: the file to write, in a directory that exists.
        size: its length in bytes, where known; else what the server says must hold.
        checksum: `sha256:` or `md5:` and hexadecimal digits, where known.
        attempts: how many times in a row a connection may bring nothing new before this gives up.
        pause: seconds before the second attempt; each further pause is twice as long, at most 30 seconds.
        timeout: seconds of silence after which a connection counts as broken.
        report: is told of the progress, of the check as of the transfer.

    Raises:
        DataError: the server does not have the file, the connection broke too often, or the disk did not take it (run
            again to go on); or the bytes are wrong (the partial file is then deleted).
    """
    if target.exists():
        if fault := mismatch(target, size, checksum, report):
            raise DataError(f"{target}: not the published file ({fault}). Delete it, and run again to download it.")
        return
    partial = target.with_name(target.name + PARTIAL)
    failures = best = 0
    while True:
        try:
            said = _receive(url, partial, size, timeout, report)
            break
        except _BrokenError as error:
            have = _length(partial)
            failures, best = (0, have) if have > best else (failures + 1, best)
            if failures >= attempts:
                raise DataError(
                    f"{url}: gave up after {failures} attempts that brought nothing new ({error}). "
                    f"Run again to continue from {have:,} bytes, or use another --mirror."
                ) from error
            time.sleep(min(pause * 2 ** max(failures - 1, 0), _LONGEST_PAUSE))
    if fault := mismatch(partial, size if size is not None else said, checksum, report):
        partial.unlink()
        raise DataError(f"{url}: wrong bytes ({fault}). They were deleted: run again, or use another --mirror.")
    partial.replace(target)


def mismatch(path: Path, size: int | None, checksum: str | None, report: Report = silent) -> str:
    """How a file differs from what is expected of it; empty if it does not.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        found = path.stat().st_size
        if size is not None and found != size:
            return f"expected {size:,} bytes, got {found:,}"
        if checksum is not None:
            algorithm, _, wanted = checksum.partition(":")
            got = digest(path, algorithm, report)
            if got != wanted:
                return f"expected {algorithm} {wanted}, got {got}"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from error
    return ""


def digest(path: Path, algorithm: str, report: Report = silent) -> str:
    """The hexadecimal digest of a file by "sha256" or "md5"."""
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            done += len(chunk)
            report("checking", done, size)
    return hasher.hexdigest()


def _receive(url: str, partial: Path, size: int | None, timeout: float, report: Report) -> int | None:
    """One connection: append what is missing, or begin anew where the server does not do ranges. Gives the whole
    length, where the server says it.

    Raises:
        _BrokenError: it ended early, or the server may do better next time.
        DataError: it is no use to try again.
    """
    have = _length(partial)
    if have == size:
        return size
    headers = {"User-Agent": "captionist", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        # An opener of our own: that of the module keeps the proxies that were there when it was first used.
        with urllib.request.build_opener().open(request, timeout=timeout) as response:
            start, total = _content_range(response) if response.status == 206 else (0, response.length)
            if start not in (0, have):
                partial.unlink(missing_ok=True)
                raise _BrokenError("the server sent a different part than was requested")
            if None not in (size, total) and total != size:
                raise DataError(f"{url}: the server has {total:,} bytes, not {size:,}. Take another --mirror.")
            done = start
            report("downloading", done, total)
            with partial.open("ab" if done else "wb") as file:
                while chunk := response.read1(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    report("downloading", done, total)
    except urllib.error.HTTPError as error:
        with error:
            said = _content_range(error)[1]
        if error.code == 416 and have == said:
            return said  # all of it is here already
        if error.code == 416:
            partial.unlink(missing_ok=True)
            raise _BrokenError("the server has fewer bytes than were already downloaded") from error
        if error.code in _PASSING:
            raise _BrokenError(f"HTTP {error.code} {error.reason}") from error
        raise DataError(
            f"{url}: the server answers HTTP {error.code} {error.reason}. The address may have moved: "
            "see docs/download.md, or use another --mirror."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # urllib's errors have one of their own
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise DataError(f"{url}: the server's certificate is not trusted ({cause.verify_message}).") from error
        if isinstance(cause, OSError) and cause.errno in _FULL:
            raise DataError(
                f"{partial}: cannot be written ({cause.strerror}). Make room, and run again to continue."
            ) from error
        raise _BrokenError(str(error) or type(error).__name__) from error
    if total is not None and done < total:
        raise _BrokenError(f"the connection ended after {done:,} of {total:,} bytes")
    return total


def _content_range(answer: http.client.HTTPResponse | urllib.error.HTTPError) -> tuple[int, int | None]:
    """Where the part begins, -1 if the server does not say, and how long the whole is, None if it does not."""
    match = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    start, total = match.groups() if match else (None, None)
    return -1 if start is None else int(start), None if total in (None, "*") else int(total)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
