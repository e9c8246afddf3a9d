"""The bytes of requests to the service."""

_BOUNDARY = "captionist-harness"


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
