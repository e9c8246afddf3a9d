"""Downloads one file over HTTP: resumed after interruptions, retried, and checked before it gets its name."""

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
"""Called with the step ("downloading", "checking", "unpacking"), the bytes done, and the total if known. The bytes done
may go down.
"""


def silent(_step: str, _done: int, _total: int | None) -> None:
    """A Report that does nothing."""


PARTIAL = ".partial"
ATTEMPTS = 5
PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_CHUNK = 1 << 18
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may soon change."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _BrokenError(Exception):
    """The connection broke, but the file is fine: worth another attempt."""


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
    """Download `url` to `target`; what has arrived is kept in `target` + ".partial" and continued from there.

    A file that already exists is only checked. Proxies are taken from the environment; certificates are verified.

    Args:
        url: an http or https address; redirects are followed.
        target: the file to write, in a directory that exists.
        size: its length in bytes, if known; otherwise what the server says must hold.
        checksum: `sha256:` or `md5:` and hexadecimal digits, if known.
        attempts: how many times in a row a connection may bring nothing new before this gives up.
        pause: seconds before the second attempt; each further pause is twice as long, at most 30 seconds.
        timeout: seconds of silence after which a connection counts as broken.
        report: called with the progress of both the transfer and the check.

    Raises:
        DataError: the server does not have the file, the connection broke too often, or the disk refused it (run again
            to continue); or the bytes are wrong (the partial file is then deleted).
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
    """How a file differs from what is expected; empty if it does not.

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
    """The hexadecimal digest of a file, by "sha256" or "md5"."""
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            done += len(chunk)
            report("checking", done, size)
    return hasher.hexdigest()


def _receive(url: str, partial: Path, size: int | None, timeout: float, report: Report) -> int | None:
    """Append what is missing over one connection, or start again if the server does not do ranges.

    Returns the whole length, if the server gives it.

    Raises:
        _BrokenError: it ended early, or the server may do better next time.
        DataError: trying again is no use.
    """
    have = _length(partial)
    if have == size:
        return size
    headers = {"User-Agent": "captionist", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        # Our own opener: the module's keeps the proxies that were set when it was first used.
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
            return said  # everything is here already
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
    """Where the part begins, -1 if the server does not say, and the length of the whole, None if it does not say."""
    match = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    start, total = match.groups() if match else (None, None)
    return -1 if start is None else int(start), None if total in (None, "*") else int(total)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
