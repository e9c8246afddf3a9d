"""A service in its own process, what can be sent to it byte for byte, and servers that it asks."""

import json
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx2

from harness.processes import HOST, Service
from tests.tools import wait_until

PATIENCE = 120
"""Seconds that a client waits."""


class Running(Service):
    """A service with its data in a directory, which is asked nothing before the tests do."""

    def __init__(
        self, directory: Path, *arguments: str, environment: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, data_dir=directory / "data", environment=environment, **settings)

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.process.poll() is not None or '"address": ' in self.log.read_text())
        if self.process.poll() is not None:
            raise self.fail("the service ended")

    def ask(self, path: str, body: bytes | None = None, method: str = "", **headers: str) -> httpx2.Response:
        """A request to it; by default a POST of a picture where there is a body, else a GET."""
        method = method or ("GET" if body is None else "POST")
        given = {"Content-Type": "image/jpeg"} | headers
        encoded = {name.encode(): value.encode("latin-1") for name, value in given.items()}
        return httpx2.request(method, self.url + path, content=body, headers=encoded, timeout=PATIENCE)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, after which it must end by itself, successfully."""
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE) == 0

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged: each line must be a JSON object. The last one may be half written."""
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def line(self, **fields: str) -> dict[str, Any]:
        """The one line of the log with these fields; it is written after the answer."""
        wait_until(lambda: any(fields.items() <= line.items() for line in self.lines), 10)
        (found,) = (line for line in self.lines if fields.items() <= line.items())
        return found

    def send(self, sent: bytes, leave: bool = False) -> bytes:
        """Everything that comes back until the service hangs up. leave: hang up after sending."""
        with closing(socket.create_connection((HOST, self.port), PATIENCE)) as connection:
            received = b""
            try:
                connection.sendall(sent)
                if leave:
                    connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    received += part
            except ConnectionError:
                pass  # it hung up while we were still sending
            return received


class StandIn:
    """An HTTP server on loopback that stands for one which the service asks. A context."""

    def __init__(self) -> None:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, sent = stand_in.answer(self, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_PUT = do_POST  # noqa: N815 - the name is the library's

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{HOST}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        """Status and body. It may take longer than anybody waits."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
