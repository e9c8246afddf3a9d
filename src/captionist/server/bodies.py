"""Reading request bodies: bounded in bytes and in time, never on disk."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from captionist.fetch import Fetcher
from captionist.server.content_encoding import is_compressed, unpacked
from captionist.server.problems import Problem

_MOST_FIELDS = 20
PICTURE_FIELD = "picture"
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*[\w-]*'[^']*'([^;\s]*)", re.IGNORECASE)  # RFC 8187
_AS_IT_IS = (b"binary", b"8bit", b"7bit")
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1")


class _Parser(MultiPartParser):
    # The service may run on a read-only file system; the size of a body is limited before it is parsed.
    spool_max_size = 1 << 62

    def on_headers_finished(self) -> None:
        """A part is a file if it has a file name, in whatever form, or is in the files' field."""
        part = self._current_part
        disposition = part.content_disposition or b""
        options = parse_options_header(disposition)[1]
        extended = _EXTENDED_NAME.search(disposition)
        if b"filename" not in options and (extended or options.get(b"name") == PICTURE_FIELD.encode()):
            name = unquote_to_bytes(extended[1]) if extended else b""
            part.content_disposition = disposition + b'; filename="' + name.replace(b'"', b"'") + b'"'
        for header, value in part.item_headers:
            if header == b"content-transfer-encoding" and value.strip().lower() not in _AS_IT_IS:
                raise MultiPartException("a part has a Content-Transfer-Encoding: send its bytes as they are.")
        super().on_headers_finished()


class BodyReader:
    """Reads bodies, fetches what they name, and counts what all requests together hold in memory."""

    def __init__(self, max_body: int, max_total: int, timeout: float, fetcher: Fetcher | None = None) -> None:
        self.max_body, self.max_total, self.timeout, self.fetcher = max_body, max_total, timeout, fetcher
        self.held = 0

    @contextmanager
    def body(self, request: Request) -> Iterator["Body"]:
        """The body of a request; what has arrived of it counts as held for as long as the context lasts.

        Raises Problem (too-large) if its announced size is over the limit. Room is taken as bytes arrive, not when they
        are announced: otherwise a client could take all of it with a header.
        """
        body = Body(self, request)
        announced = request.headers.get("content-length", "")
        if announced.isdigit():
            self.check_size(int(announced))
        try:
            yield body
        finally:
            self.held -= body.held

    def check_size(self, size: int) -> None:
        """Raises Problem for a body with more bytes than allowed."""
        if size > self.max_body:
            raise Problem("too-large", f"The body has more than {self.max_body:,} bytes: send fewer pictures.")


class Body:
    """One request's body. Reading it raises Problem (bad-request, request-timeout, too-large, overloaded)."""

    def __init__(self, reader: BodyReader, request: Request) -> None:
        self._reader, self._request = reader, request
        self.held = 0
        """Bytes that have arrived."""

    async def fetch(self, url: str) -> bytes:
        """What is at a URL; it counts towards the body. Raises ImageError, Problem (url-refused, too-large,
        overloaded).
        """
        if self._reader.fetcher is None:
            raise Problem("url-refused", "This service does not fetch URLs: send the picture itself.")
        return await self._reader.fetcher.fetch(url, self._hold)

    def _hold(self, count: int) -> None:
        """Take room for more bytes. Raises Problem if there is none."""
        reader = self._reader
        reader.check_size(self.held + count)
        if reader.held + count > reader.max_total:
            self._request.state.rejection = "memory"
            raise Problem("overloaded", "Too many bytes are being received at once: try again.", retry_after=1)
        reader.held += count
        self.held += count

    async def read(self) -> bytes:
        """The whole body."""
        async with self._arrival():
            chunks = [chunk async for chunk in self._chunks()]
        return await asyncio.to_thread(b"".join, chunks)

    async def read_form(self, max_files: int) -> FormData:
        """Its multipart parts, with files in memory."""
        self._check_type()
        async with self._arrival():
            parser = _Parser(self._request.headers, self._chunks(), max_files=max_files, max_fields=_MOST_FIELDS)
            try:
                return await parser.parse()
            except MultiPartException as error:
                raise Problem("bad-request", f"The multipart body is malformed: {error.message}") from error

    def _check_type(self) -> None:
        options = parse_options_header(self._request.headers["content-type"])[1]
        if b"boundary" not in options:
            raise Problem("bad-request", "The Content-Type names no boundary: leave this header to your HTTP client.")
        # Some of Python's codecs are not character sets, and some produce text that UTF-8 cannot express.
        if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
            raise Problem("bad-request", "The multipart body is not in UTF-8: encode it in UTF-8.")

    async def _chunks(self) -> AsyncGenerator[bytes]:
        stream = self._request.stream()
        async for chunk in unpacked(stream) if is_compressed(self._request) else stream:
            self._hold(len(chunk))
            yield chunk

    @asynccontextmanager
    async def _arrival(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._reader.timeout):
                yield
        except TimeoutError as error:
            raise Problem(
                "request-timeout", f"The body did not arrive within {self._reader.timeout:g} seconds."
            ) from error
