"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from captionist import __version__
from captionist.errors import SettingsError
from captionist.server import aws
from captionist.server.head import Head
from captionist.server.instrumentation import Instrumentation
from captionist.server.observers import at_work
from captionist.server.overload import RefuseOverload
from captionist.server.problems import Problem
from captionist.server.routes import captions, feedback, health, models, ollama, openai, page, reference
from captionist.server.schemas import CaptionRequest, FeedbackRequest, ProblemDocument
from captionist.server.service import Service
from captionist.server.settings import PREFIX, Settings

if TYPE_CHECKING:  # needs an extra
    from captionist.server.tracing import Tracing

DESCRIPTION = """
Describes photographs in one English sentence, and keeps what people think of it.

Every error is a problem document (RFC 9457); its `type` is stable. Every answer has an `X-Request-ID`: the request's
own where it has one, and the `instance` of a problem. Where the operator has set API keys, send yours as
`Authorization: Bearer KEY`.
"""


def create_app(service: Service) -> FastAPI:
    """The application around a started service; when it ends, it stops the service.

    Raises SettingsError if something that should observe the service cannot work here.
    """

    tracing = _tracing(service.settings)
    observers = aws.observers(service.settings, service.telemetry, service.batcher)
    observers += [tracing] if tracing else []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with at_work(observers):
            yield
            await service.stop()

    app = FastAPI(
        title="Captionist",
        version=__version__,
        description=DESCRIPTION.strip(),
        lifespan=lifespan,
        redirect_slashes=False,  # they would lead to whatever Host the request names
        docs_url=None,  # that page would load scripts from elsewhere; ours is routes/reference.py
        redoc_url=None,
        openapi_url="/openapi.json",
        # `Instrumentation` makes ours, and also sees what is refused before routing.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = service
    app.state.error_formats = {}
    if service.settings.compatible_apis:
        for module in (openai, ollama):
            app.include_router(module.router)  # before our own: OpenAI's list of models says more than ours
            app.state.error_formats |= module.ERROR_FORMATS
    for module in (captions, feedback, models, health, page, reference):
        app.include_router(module.router)
    app.mount("/page", page.PageFiles())
    app.mount("/docs", reference.files())
    app.add_middleware(Head)
    app.add_middleware(RefuseOverload, batcher=service.batcher)  # inside CORS, so that a page can read the refusal
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],  # tracing headers (traceparent, baggage, ...) have many names, and none does harm
            expose_headers=["X-Request-ID", "Retry-After", "Idempotency-Replayed"],
        )
    app.add_middleware(Instrumentation, service=service, tracing=tracing, observers=observers)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _wrong_parameters)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    _document(app)
    return app


def _tracing(settings: Settings) -> "Tracing | None":
    if not settings.traces:
        return None
    try:
        from captionist.server.tracing import Tracing
    except ModuleNotFoundError as error:
        missing = f"{PREFIX}TRACES needs the package {error.name}, which is missing"
        raise SettingsError(f'{missing}: pip install "captionist[serve,otel]"') from error
    return Tracing(settings.service_name)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response(request)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Errors that the framework itself raises."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        problem = Problem("not-found", "Nothing is here: the API is described at /docs, and in /openapi.json.")
    elif error.status_code == 405:
        problem = Problem("method-not-allowed", f"{request.method} is not for this resource.")
    else:
        problem = Problem("bad-request", f"{error.detail}.")
    problem.headers.update(error.headers or {})
    return problem.response(request)


async def _wrong_parameters(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [{"field": ".".join(map(str, fault["loc"][1:])), "message": fault["msg"]} for fault in error.errors()]
    detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    return Problem("invalid-request", f"{detail}.", errors=faults).response(request)


async def _disconnected(request: Request, _: Exception) -> Response:
    """Nobody reads this answer; the status is for the log and the metrics, as in nginx."""
    request.state.disconnected = True
    return Response(status_code=499)


def _document(app: FastAPI) -> None:
    """Complete the OpenAPI document with what the routes read and answer themselves."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            for model in (CaptionRequest, FeedbackRequest, ProblemDocument):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {})
                schemas[model.__name__] = schema
            # FastAPI's own description of an error. Ours is a problem, and each operation lists those it may answer
            # with.
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for operation in (operation for path in document["paths"].values() for operation in path.values()):
                if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{}, {"key": []}]
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
