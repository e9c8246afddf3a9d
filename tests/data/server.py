"""A file server with faults, for tests of downloads: what each path answers is a list, taken one by one."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(kw_only=True)
class Fault:
    """How one answer differs from a right one; the default does not."""

    status: int | None = None
    location: str = ""
    """Redirect there."""
    stop_after: int | None = None
    """Close the connection after so many bytes of the body."""
    hang_after: int | None = None
    """Send so many bytes of the body, then nothing until the server is closed."""
    claim: int = 0
    """Added to the length that the headers say."""
    ignore_range: bool = False
    shift_range: int = 0
    """Answer a range that begins so many bytes later than asked."""
    chunked: bool = False


@dataclass
class FileServer:
    """Its files by path, the faults to come, and what was asked."""

    files: dict[str, bytes]
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each request, in order."""
    closing: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def ranges(self, path: str) -> list[str | None]:
        return [asked for name, asked in self.requests if name == path]


@contextmanager
def serve(files: dict[str, bytes], tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    state = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, state)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    if tls is not None:
        state.address = f"https://localhost:{server.server_port}"
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, state: FileServer) -> None:
    path, asked = request.path, request.headers.get("Range")
    state.requests.append((path, asked))
    waiting = state.faults.get(path, [])
    fault = waiting.pop(0) if waiting else Fault()
    if fault.location:
        request.send_response(302)
        request.send_header("Location", fault.location)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    if fault.status is not None or path not in state.files:
        request.send_error(fault.status or 404)
        return
    content, start = state.files[path], 0
    match = re.fullmatch(r"bytes=(\d+)-", asked or "")
    if match and not fault.ignore_range:
        start = int(match[1])
        if start >= len(content) + fault.claim:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start += fault.shift_range
        total = len(content) + fault.claim
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    else:
        request.send_response(200)
    body = content[start:]
    if fault.chunked:
        request.protocol_version = "HTTP/1.1"
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        part = body[: fault.stop_after]
        request.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if fault.stop_after is None:
            request.wfile.write(b"0\r\n\r\n")
        return
    request.send_header("Content-Length", str(len(body) + fault.claim))
    request.end_headers()
    if fault.hang_after is not None:
        request.wfile.write(body[: fault.hang_after])
        request.wfile.flush()
        state.closing.wait()
        return
    request.wfile.write(body[: fault.stop_after])
