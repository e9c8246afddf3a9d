"""Forms, byte for byte."""

FORM = b"multipart/form-data; boundary=X"


def disposition(name: bytes, filename: bytes | None = None) -> bytes:
    return (
        b'Content-Disposition: form-data; name="'
        + name
        + b'"'
        + (b'; filename="' + filename + b'"' if filename is not None else b"")
    )


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"X") -> bytes:
    """A multipart body of (headers, content)."""
    lines = [b"--" + boundary + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n" for headers, content in parts]
    return b"".join(lines) + b"--" + boundary + b"--\r\n"
