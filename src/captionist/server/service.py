"""What the routes share: everything that lives as long as the service."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request

from captionist import __version__
from captionist.captioner import Captioner
from captionist.errors import SettingsError
from captionist.fetch import Fetcher
from captionist.inference.threads import available_cores
from captionist.server.batching import Batcher
from captionist.server.bodies import BodyReader
from captionist.server.caption_ids import CaptionIds
from captionist.server.security import Client, Gatekeeper
from captionist.server.settings import Settings, read_secret
from captionist.server.store.calls import StoreCalls
from captionist.server.store.store import FeedbackStore, StoreError
from captionist.server.telemetry import Telemetry

_log = structlog.get_logger()


@dataclass
class Service:
    """The parts of a running service."""

    settings: Settings
    captioner: Captioner
    batcher: Batcher
    bodies: BodyReader
    ids: CaptionIds
    gatekeeper: Gatekeeper
    feedback: StoreCalls
    telemetry: Telemetry
    stopping: bool = False
    """Whether it was told to stop, and is finishing its work."""

    @classmethod
    def start(cls, settings: Settings) -> "Service":
        """Load the model and open the store; blocks. Raises BundleError, SettingsError."""
        secret = read_secret(settings)
        # The model is small: two batches on a core each are much faster than one after the other on both cores.
        try:
            captioner = Captioner(settings.model, threads=1, limits=settings.image_limits, providers=settings.providers)
        except ValueError as error:
            raise SettingsError(f"CAPTIONIST_PROVIDERS: {error}") from error
        telemetry = Telemetry(captioner.bundle.config, __version__)
        store = FeedbackStore(settings.sqlalchemy_url)
        try:
            store.prepare()
        except StoreError as error:  # captions need no database, and it may come back
            _log.error("feedback cannot be stored", reason=str(error))
        batcher = Batcher(
            captioner,
            max_batch=settings.max_batch,
            max_delay=settings.max_delay,
            max_queue=settings.max_queue,
            deadline=settings.deadline,
            engines=settings.engines or available_cores(),
            on_batch=telemetry.batch,
        )
        telemetry.watch(batcher)
        return cls(
            settings=settings,
            captioner=captioner,
            batcher=batcher,
            bodies=BodyReader(
                settings.max_body_bytes,
                settings.max_inflight_bytes,
                settings.body_timeout,
                Fetcher(settings.max_picture_bytes, settings.fetch_timeout) if settings.fetch_urls else None,
            ),
            ids=CaptionIds(secret),
            gatekeeper=Gatekeeper(settings),
            feedback=StoreCalls(store),
            telemetry=telemetry,
        )

    async def stop(self) -> None:
        """Finish what was accepted, then release everything."""
        await asyncio.to_thread(self.batcher.close)
        if self.bodies.fetcher:
            await self.bodies.fetcher.aclose()
        await asyncio.to_thread(self.feedback.close)


# These are coroutines because FastAPI would send plain functions to a thread and back.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]


async def _client(request: Request, service: ServiceDep) -> Client:
    return service.gatekeeper.admit(request)


async def _administrator(request: Request, service: ServiceDep) -> Client:
    return service.gatekeeper.admit_administrator(request)


ClientDep = Annotated[Client, Depends(_client)]
AdministratorDep = Annotated[Client, Depends(_administrator)]
