"""What the routes share: everything that lives as long as the service."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import Depends, Request

from captionist import __version__
from captionist.bundle import BundleConfig
from captionist.captioner import Captioner
from captionist.errors import SettingsError
from captionist.fetch import Fetcher
from captionist.inference.threads import available_cores
from captionist.server.batching import Batcher
from captionist.server.bodies import BodyReader
from captionist.server.captionids import CaptionIds
from captionist.server.emf import EmfTelemetry
from captionist.server.logs import line_writer
from captionist.server.scale_in import ScaleInProtection, agent_uri
from captionist.server.security import Client, Gatekeeper
from captionist.server.settings import PREFIX, Settings, read_secret
from captionist.server.store.calls import StoreCalls
from captionist.server.store.store import FeedbackStore, StoreError
from captionist.server.telemetry import Telemetry

if TYPE_CHECKING:  # it needs an extra
    from captionist.server.tracing import Tracing

_log = structlog.get_logger()


@dataclass
class Service:
    """The parts of a running service."""

    settings: Settings
    captioner: Captioner
    batcher: Batcher
    bodies: BodyReader
    ids: CaptionIds
    fetcher: Fetcher | None
    gatekeeper: Gatekeeper
    store: FeedbackStore
    store_calls: StoreCalls
    telemetry: Telemetry
    tracing: "Tracing | None"
    protection: ScaleInProtection | None
    tasks: "list[asyncio.Task[None]]" = field(default_factory=list)
    """What runs beside the requests."""

    @classmethod
    def start(cls, settings: Settings) -> "Service":
        """Load the model and open the store; blocks. Raises BundleError, SettingsError."""
        secret = read_secret(settings)
        tracing = _tracing(settings)
        agent = agent_uri() if settings.scale_in_protection else None
        # The model is small: two batches on a core each are much faster than one after the other on both.
        try:
            captioner = Captioner(settings.model, threads=1, limits=settings.image_limits, providers=settings.providers)
        except ValueError as error:
            raise SettingsError(f"CAPTIONIST_PROVIDERS: {error}") from error
        engines = settings.engines or available_cores()
        telemetry = _telemetry(settings, captioner.bundle.config)
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
            engines=engines,
            observer=telemetry,
        )
        telemetry.watch(batcher)
        return cls(
            settings=settings,
            captioner=captioner,
            batcher=batcher,
            bodies=BodyReader(settings.max_body_bytes, settings.max_inflight_bytes, settings.body_timeout),
            ids=CaptionIds(secret),
            fetcher=Fetcher(settings.max_picture_bytes, settings.fetch_timeout) if settings.fetch_urls else None,
            gatekeeper=Gatekeeper(settings),
            store=store,
            store_calls=StoreCalls(),
            telemetry=telemetry,
            tracing=tracing,
            protection=ScaleInProtection(batcher, agent) if agent else None,
        )

    def begin(self) -> None:
        """Start what runs beside the requests; to be called by the event loop that answers them."""
        work: list[Coroutine[Any, Any, None]] = []
        if isinstance(self.telemetry, EmfTelemetry):
            work.append(self.telemetry.run())
        if self.protection:
            work.append(self.protection.run())
        self.tasks = [asyncio.create_task(coroutine) for coroutine in work]

    async def stop(self) -> None:
        """Finish what was accepted, then let go of everything."""
        await asyncio.to_thread(self.batcher.close)
        for task in self.tasks:
            task.cancel()
        for ended in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                _log.error("a background task failed", exc_info=ended)
        if self.tracing:
            await asyncio.to_thread(self.tracing.close)
        if self.fetcher:
            await self.fetcher.aclose()
        await asyncio.to_thread(self.store_calls.close)
        self.store.close()


def _telemetry(settings: Settings, model: BundleConfig) -> Telemetry:
    if settings.emf_interval is None:
        return Telemetry(model, __version__)
    return EmfTelemetry(
        model,
        __version__,
        interval=settings.emf_interval,
        namespace=settings.emf_namespace,
        service=settings.service_name,
        write=line_writer(),
    )


def _tracing(settings: Settings) -> "Tracing | None":
    if not settings.traces:
        return None
    try:
        from captionist.server.tracing import Tracing
    except ModuleNotFoundError as error:
        missing = f"{PREFIX}TRACES needs the package {error.name}, which is missing"
        raise SettingsError(f'{missing}: pip install "captionist[serve,otel]"') from error
    return Tracing(settings.service_name)


# These are coroutines because FastAPI sends plain functions to a thread and back.
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
