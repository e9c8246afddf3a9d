"""Where files are: paths on this machine, and URLs that pyarrow reads (s3://, gs://, file://)."""

import os
import re
from functools import lru_cache

from pyarrow import fs

from captionist.errors import CollectionError
from captionist.paths import absolute

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)


def is_url(name: str) -> bool:
    return _URL.match(name) is not None


def locate(name: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL or of a path on this machine, and the path there.

    What comes after the bucket in a URL is the key, to the letter: nothing is decoded. S3 is configured as for AWS's
    own tools: by AWS_* variables (including an endpoint: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL), ~/.aws, or the
    machine's role. Raises CollectionError for an unknown kind of URL, and for a name that is not UTF-8, which pyarrow
    needs.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CollectionError(f"{name}: the name is not UTF-8 text: name another folder, or rename it") from error
    url = _URL.match(name)
    if url is None:
        return fs.LocalFileSystem(), absolute(name)
    scheme, host, path = url.groups()
    try:
        system, root = _file_system(scheme, host)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these two kinds
        raise CollectionError(f"{name}: {reason(error)}: give a path, or a URL such as s3://bucket/folder") from error
    return system, (root.rstrip("/") + path).rstrip("/")


def reason(error: Exception) -> str:
    """The message of one of pyarrow's errors, on one line of sensible length."""
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().partition("\n")[0][:300]


@lru_cache(maxsize=64)
def _file_system(scheme: str, host: str) -> tuple[fs.FileSystem, str]:
    if scheme != "s3":
        system, root = fs.FileSystem.from_uri(f"{scheme}://{host or '/'}")
        return system, root
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(host)
    # Report an unreachable bucket within seconds, not after minutes of attempts.
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=3)
    return fs.S3FileSystem(
        endpoint_override=endpoint, region=region, connect_timeout=5, request_timeout=30, retry_strategy=retries
    ), host
