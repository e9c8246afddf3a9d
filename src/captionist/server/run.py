"""Runs the service until it is told to stop."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator

import cv2
import numpy as np
import structlog
import uvicorn

from captionist.errors import SettingsError
from captionist.images import encode_jpeg
from captionist.server.app import create_app
from captionist.server.logs import configure_logging
from captionist.server.service import Service
from captionist.server.settings import Settings
from captionist.system import raise_file_limit, share_heaps

_log = structlog.get_logger()
_MOST_HEADERS = 65_536  # bytes of a request that may wait for the rest of its headers or trailers


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, finish what was accepted, and return.

    Raises CaptionistError if the service cannot start.
    """
    os.umask(0o077)  # what people wrote, and perhaps their pictures, are nobody else's on this machine
    configure_logging(settings.log_level, settings.log_format)
    raise_file_limit()
    share_heaps()
    listener = _listen(settings.host, settings.port)
    cv2.setNumThreads(1)  # pictures are already decoded in parallel
    service = Service.start(settings)
    _warm_up(service)
    config = uvicorn.Config(
        create_app(service),
        http="h11",  # httptools accepts headers and trailers of any length
        h11_max_incomplete_event_size=_MOST_HEADERS,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,  # longer than a load balancer's 60, so that we never hang up first
        timeout_graceful_shutdown=int(settings.grace_period),
        backlog=2048,
    )
    _Server(config, service).run(sockets=[listener])
    _log.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn, except for its end: after a signal, it would kill itself with it, but stopping on request is success."""

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
        self.should_exit = self._service.stopping = True


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, opened before the model is loaded, so that a port in use is reported at once."""
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
    """Make the first captions before anybody waits for one, since the very first is slow."""
    height, width = service.captioner.bundle.config.image.height, service.captioner.bundle.config.image.width
    ramp = np.linspace(0, 255, height * width * 3).astype(np.uint8).reshape(height, width, 3)
    picture = encode_jpeg(ramp)
    service.captioner.caption(picture)
    began = time.monotonic()
    service.captioner.caption(picture)
    service.batcher.note_speed(time.monotonic() - began)  # so that there is a figure for the first burst
