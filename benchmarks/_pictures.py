"""Photographs, and the requests that carry them."""

import struct
import zlib
from pathlib import Path

EXAMPLES = Path("examples")
_BOUNDARY = "captionist-benchmark"


def photographs(folder: Path, count: int = 64) -> list[bytes]:
    """The examples (large), filled up with photographs of a folder (small) where there is one, taken in turn."""
    large = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))[:count]]
    small = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[: count - len(large)]]
    if not small:
        return large
    every = len(small) // len(large)  # so that neither kind comes in a row
    mixed: list[bytes] = []
    for place, picture in enumerate(large):
        mixed += [picture, *small[place * every : (place + 1) * every]]
    return mixed + small[len(large) * every :]


def post(path: str, body: bytes, content_type: str, **headers: str) -> bytes:
    """The bytes of a POST request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def multipart(fields: dict[str, str], picture: bytes | None = None) -> tuple[bytes, str]:
    """A form's body and its content type."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if picture is not None:
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="picture"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + picture + b"\r\n")
    parts.append(f"--{_BOUNDARY}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={_BOUNDARY}"


def caption_request(picture: bytes, path: str = "/v1/captions") -> bytes:
    """A picture as a browser's form sends it."""
    return post(path, *multipart({}, picture))


def png_of_zeros(width: int, height: int) -> bytes:
    """A valid black PNG of 1 bit a pixel, a thousand times smaller than what it decodes to: a bomb."""
    row = bytes(1 + (width + 7) // 8)
    compressor = zlib.compressobj()
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", rows), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
