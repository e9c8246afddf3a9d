"""Runs the service until it is told to stop."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from captionist.errors import SettingsError
from captionist.images import encode_jpeg
from captionist.server.app import create_app
from captionist.server.logs import configure_logging
from captionist.server.problems import MEDIA_TYPE, Problem
from captionist.server.security import HEADERS
from captionist.server.service import Service
from captionist.server.settings import Settings
from captionist.system import raise_file_limit, share_heaps

_log = structlog.get_logger()
_MOST_OVERHEAD = 200_000


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, finish what was accepted, and return.

    Raises CaptionistError where the service cannot start.
    """
    os.umask(0o077)  # what people wrote, and perhaps their pictures, is nobody else's on this machine
    configure_logging(settings.log_level, settings.log_format)
    raise_file_limit()
    share_heaps()
    listener = _listen(settings.host, settings.port)
    cv2.setNumThreads(1)  # pictures are decoded side by side already
    service = Service.start(settings)
    _warm_up(service)
    config = uvicorn.Config(
        create_app(service),
        http=_protocol(settings.body_timeout),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,  # longer than a load balancer's 60, so that it is never us who hangs up
        timeout_graceful_shutdown=int(settings.grace_period),
        backlog=2048,
    )
    _Server(config, service).run(sockets=[listener])
    _log.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn, but for its end: after a signal it would kill itself with it, while stopping when told is success."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port, *_ = (sockets or [])[0].getsockname()
        model = self._service.captioner.bundle.config
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _log.info("serving", address=address, model=model.name, model_version=model.version)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        yield

    def _stop(self, number: int) -> None:
        if not self.should_exit:
            _log.info("stopping", signal=signal.Signals(number).name, admitted=self._service.batcher.admitted)
        elif number == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def _protocol(patience: float) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol; a client that takes longer than `patience` seconds for its headers, or for a body that
    nobody waits for any more, is hung up on. Bytes that are not HTTP, and headers without end, get a problem document.
    uvicorn sets no limit to what is not body, and would keep all of it.
    """

    class Protocol(HttpToolsProtocol):
        _hang_up: asyncio.TimerHandle | None = None
        _awaits_headers = True
        _overhead = 0
        """Bytes of the request that are not its body."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._hang_up_later()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stay()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._overhead += len(data)
            if self._overhead > _MOST_OVERHEAD and not self.transport.is_closing():
                if self._awaits_headers:
                    self.send_400_response(f"The headers have more than {_MOST_OVERHEAD:,} bytes.")
                else:  # trailers or chunks; an answer may be on its way already
                    self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._overhead = 0
            if not self._awaits_headers:
                self._awaits_headers = True
                self._hang_up_later()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._awaits_headers:  # nobody reads trailers: they would only pile up
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._awaits_headers = False
            self._stay()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._overhead -= len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._stay()
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.more_body and self._hang_up is None:
                self._hang_up_later()

        def send_400_response(self, msg: str) -> None:
            body = json.dumps(Problem("bad-request", f"{msg}".strip()).document()).encode()
            headers = {**HEADERS, "Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close"}
            lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in headers.items())]
            self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            self.transport.close()

        def _hang_up_later(self) -> None:
            self._hang_up = self.loop.call_later(patience, self.transport.close)

        def _stay(self) -> None:
            if self._hang_up is not None:
                self._hang_up.cancel()
                self._hang_up = None

    return Protocol


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; before the model is loaded, so that a port that is taken is told at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        raise SettingsError(
            f"cannot listen on {host} port {port} ({error}): choose others with --host, --port"
        ) from error
    return listener


def _warm_up(service: Service) -> None:
    """First captions, the very first of which is slower than those after it, before anybody waits for one."""
    height, width = service.captioner.bundle.config.image.height, service.captioner.bundle.config.image.width
    ramp = np.linspace(0, 255, height * width * 3).astype(np.uint8).reshape(height, width, 3)
    picture = encode_jpeg(ramp)
    service.captioner.caption(picture)
    began = time.monotonic()
    service.captioner.caption(picture)
    service.batcher.note_speed(time.monotonic() - began)  # so that the first burst is measured by something
