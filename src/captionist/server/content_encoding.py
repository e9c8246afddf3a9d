"""Bodies that were compressed for transfer (Content-Encoding)."""

import asyncio
import zlib
from collections.abc import AsyncGenerator

from fastapi import Request

from captionist.server.problems import Problem

_ENCODINGS = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_PIECE = 1 << 20  # bytes: a few bytes in may be a thousand times as many out


def is_compressed(request: Request) -> bool:
    """Whether the body must be unpacked. Raises Problem for an unsupported compression."""
    named = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    encodings = [name.strip() for name in named if name.strip() not in ("", "identity")]
    if not encodings:
        return False
    if len(encodings) > 1 or encodings[0] not in _ENCODINGS:
        raise Problem(
            "unsupported-media-type",
            "The body is compressed, but not with gzip: send it uncompressed, since pictures are compressed already.",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    return True


async def unpacked(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The uncompressed body, in pieces of bounded size. Raises Problem (bad-request) if it is damaged."""
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        async for chunk in chunks:
            left = chunk
            while True:
                piece = await asyncio.to_thread(stream.decompress, left, _PIECE)
                left = stream.unconsumed_tail
                if piece:
                    yield piece
                elif not left:
                    break
    except zlib.error as error:
        raise Problem(
            "bad-request", "The body is not compressed in the way its Content-Encoding says: correct one of the two."
        ) from error
    if not stream.eof or stream.unused_data:
        raise Problem("bad-request", "The compressed body is cut short, or something follows it.")
