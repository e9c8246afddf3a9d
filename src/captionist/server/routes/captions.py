"""POST /v1/captions."""

import asyncio
import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, Request

from captionist.errors import ImageError
from captionist.options import SearchOptions, given
from captionist.server.batching import Described, OverloadedError
from captionist.server.bodies import PICTURE_FIELD
from captionist.server.caption_ids import CaptionRecord
from captionist.server.inputs import Picture, read_pictures
from captionist.server.overload import refusal
from captionist.server.problems import Problem, image_problem, responses
from captionist.server.schemas import (
    CaptionOptions,
    CaptionOutput,
    CaptionResponse,
    Milliseconds,
    ModelName,
    PictureOutput,
    ProblemDocument,
    fields_of,
)
from captionist.server.service import ClientDep, Service, ServiceDep
from captionist.server.task_groups import task_group, unless_disconnected

if TYPE_CHECKING:  # needs an extra
    from captionist.server.tracing import RequestSpan

router = APIRouter(tags=["captions"])
_log = structlog.get_logger()

_FORM: dict[str, Any] = {
    "type": "object",
    "required": [PICTURE_FIELD],
    "additionalProperties": False,
    "properties": {
        PICTURE_FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
        **fields_of(CaptionOptions),
    },
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": {"$ref": "#/components/schemas/CaptionRequest"}},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
_QUERY = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": f"{schema.pop('description')} (if the body is a picture)",
    }
    for name, schema in fields_of(CaptionOptions).items()
]
_PROBLEMS = (
    "bad-request", "unauthorized", "request-timeout", "too-large", "unsupported-media-type", "not-an-image",
    "unsupported-image", "corrupt-image", "empty-image", "invalid-request", "url-refused", "rate-limited", "internal",
    "overloaded", "not-ready", "deadline-exceeded",
)  # fmt: skip


@router.post(
    "/v1/captions",
    summary="Describe pictures",
    response_model=CaptionResponse,
    response_description="At least one of the pictures is described",
    responses=responses(*_PROBLEMS),
    openapi_extra={"requestBody": _BODY, "parameters": _QUERY},
)
async def create_captions(request: Request, service: ServiceDep, client: ClientDep) -> CaptionResponse:  # noqa: ARG001
    """Describe one picture or several: as multipart files, as the body itself, or in JSON (base64 or data: URIs).

    If some of several pictures cannot be read, they get a problem and the others are described. If none can be read,
    the answer is the problem of the first.
    """
    begun = time.monotonic()
    with service.bodies.body(request) as body:
        pictures, options = await read_pictures(request, body, service.settings)
        return await describe(request, service, pictures, options, begun)


async def describe(
    request: Request,
    service: Service,
    pictures: list[Picture],
    options: CaptionOptions,
    begun: float,
    *,
    all_or_none: bool = False,
) -> CaptionResponse:
    """The captions of a request's pictures, whose body has been read and is still held.

    begun: when the request began, by `time.monotonic`. Raises Problem if no picture can be described; with all_or_none,
    if any cannot be.
    """
    search = _search(service, options)
    # For a full body, this takes a quarter of a second, in which no other request would be served.
    digests = await asyncio.to_thread(lambda: [hashlib.sha256(picture.data).hexdigest() for picture in pictures])
    try:
        with service.batcher.room(len(pictures)):
            outcomes = await unless_disconnected(request, _describe(service, pictures, search, request.state.span))
    except OverloadedError as error:
        raise refusal(error, request) from error
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    if problems and (all_or_none or len(problems) == len(outcomes)):
        raise problems[0]
    return _answer(service, options, outcomes, digests, begun)


def _search(service: Service, options: CaptionOptions) -> SearchOptions:
    try:
        return service.captioner.options(**given(**options.model_dump(include=set(SearchOptions.model_fields))))
    except ValueError as error:
        raise Problem("invalid-request", f"{error}.") from error


async def _describe(
    service: Service, pictures: list[Picture], options: SearchOptions, span: "RequestSpan | None"
) -> list[Described | Problem]:
    deadline = time.monotonic() + service.settings.deadline

    async def one(number: int, picture: Picture) -> Described | Problem:
        if picture.problem:
            return picture.problem
        begun = time.time_ns()
        try:
            described = await service.batcher.caption(picture.take(), picture.name, options, deadline)
        except ImageError as error:
            service.telemetry.refused_picture()
            return image_problem(error)
        except TimeoutError:  # the others have timed out, too
            raise
        except Exception:  # one bad picture; the others are described
            _log.exception("a picture failed", picture=number)
            return Problem("internal", "The picture could not be described: it was logged under this request's id.")
        service.telemetry.captioned(described.caption, described.decode, described.queue)
        if span:
            span.stages(begun, number, described)
        return described

    try:
        async with task_group() as group:
            tasks = [group.create_task(one(number, picture)) for number, picture in enumerate(pictures, 1)]
    except TimeoutError as error:
        raise Problem(
            "deadline-exceeded", f"There was no caption within {service.settings.deadline:g} seconds: try again later."
        ) from error
    return [task.result() for task in tasks]


def _answer(
    service: Service,
    options: CaptionOptions,
    outcomes: list[Described | Problem],
    digests: list[str],
    begun: float,
) -> CaptionResponse:
    described = [outcome for outcome in outcomes if isinstance(outcome, Described)]
    config = service.captioner.bundle.config

    def slowest(stage: str) -> float:
        return round(1000 * max(float(getattr(one, stage)) for one in described), 2)

    return CaptionResponse(
        model=ModelName(name=config.name, version=config.version),
        pictures=[_picture(service, options, o, d) for o, d in zip(outcomes, digests, strict=True)],
        milliseconds=Milliseconds(
            decode=slowest("decode"),
            queue=slowest("queue"),
            encode=slowest("encode"),
            generate=slowest("generate"),
            total=round(1000 * (time.monotonic() - begun), 2),
        ),
    )


def _picture(service: Service, options: CaptionOptions, outcome: Described | Problem, digest: str) -> PictureOutput:
    if isinstance(outcome, Problem):
        return PictureOutput(id=None, captions=[], problem=ProblemDocument(**outcome.document()))
    best = outcome.caption
    captions = [c for c in (best, *best.alternatives) if c.confidence >= options.min_confidence]
    if not captions:
        return PictureOutput(id=None, captions=[], problem=None)
    config = service.captioner.bundle.config
    first = captions[0]
    record = CaptionRecord(
        model=config.name,
        version=config.version,
        text=first.text,
        log_probability=round(first.log_probability, 4),
        confidence=round(first.confidence, 4),
        picture_sha256=digest,
        nonce=secrets.token_urlsafe(9),
    )
    return PictureOutput(
        id=service.ids.make(record),
        captions=[CaptionOutput(**c.fields(options.explain)) for c in captions],
        problem=None,
    )
