"""POST, DELETE and export of /v1/feedback."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from captionist import images
from captionist.errors import ImageError
from captionist.server.bodies import PICTURE_FIELD
from captionist.server.caption_ids import CaptionRecord
from captionist.server.feedback_export import as_corpus, as_jsonl
from captionist.server.inputs import read_feedback
from captionist.server.problems import Problem, image_problem, responses
from captionist.server.schemas import FeedbackRequest, FeedbackResponse, fields_of
from captionist.server.service import AdministratorDep, ClientDep, Service, ServiceDep
from captionist.server.store.store import FeedbackStore, IdempotencyMismatchError, NewFeedback, StoreError

router = APIRouter(tags=["feedback"])
_Result = TypeVar("_Result")

KEPT_SIDE = 640  # pixels: more than any of our encoders reads
_RETRY_AFTER = 5
_FORM = {
    "type": "object",
    "required": ["caption_id", "rating"],
    "additionalProperties": False,
    "properties": {
        **fields_of(FeedbackRequest),
        PICTURE_FIELD: {"type": "string", "format": "binary"},
    },
}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/FeedbackRequest"}},
        "multipart/form-data": {"schema": _FORM},
    },
}
_REPLAYED = {
    "description": "Stored",
    "headers": {
        "Idempotency-Replayed": {"description": "where it had been stored already", "schema": {"const": "true"}}
    },
}
_PROBLEMS = (
    "bad-request", "unauthorized", "request-timeout", "too-large", "unsupported-media-type", "not-an-image",
    "unsupported-image", "corrupt-image", "empty-image", "invalid-request", "unknown-caption", "pictures-not-kept",
    "idempotency-mismatch", "rate-limited", "internal", "overloaded", "store-unavailable",
)  # fmt: skip


@router.post(
    "/v1/feedback",
    status_code=201,
    summary="Say what you think of a caption",
    response_model=FeedbackResponse,
    responses={201: _REPLAYED, **responses(*_PROBLEMS)},
    openapi_extra={"requestBody": _BODY},
)
async def create_feedback(
    request: Request,
    response: Response,
    service: ServiceDep,
    client: ClientDep,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255, pattern=r"^[!-~]+$", description="the same key: stored once"),
    ] = None,
) -> FeedbackResponse:
    """Rate a caption and, if you like, write a better one. An answer of 201 means that it is stored.

    With the picture and `consent`, the picture is kept for training, scaled down and without its metadata, if the
    operator keeps pictures.
    """
    with service.bodies.body(request) as body:
        asked, picture = await read_feedback(request, body)
        record = service.ids.read(asked.caption_id)
        if record is None:
            raise Problem("unknown-caption", "caption_id was not issued by this service: send the id unchanged.")
        jpeg = await _keepable(service, asked, picture, record)
    new = NewFeedback(
        client.name, idempotency_key, record, asked.rating, asked.correction or None, asked.comment or None, jpeg
    )
    try:
        stored = await _in_store(service, lambda store: store.add(new))
    except IdempotencyMismatchError as error:
        raise Problem(
            "idempotency-mismatch", "This Idempotency-Key was used for other feedback: make a new one."
        ) from error
    if stored.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    else:
        service.telemetry.feedback(asked.rating, asked.correction is not None, record.model, record.version)
    return FeedbackResponse(id=stored.id, picture_kept=stored.picture_kept)


@router.get(
    "/v1/feedback/export",
    summary="All feedback, or what training can use of it",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "JSON lines, or a corpus",
            "content": {
                "application/jsonl": {"schema": {"type": "string"}},
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **responses("unauthorized", "forbidden", "invalid-request", "rate-limited", "internal", "store-unavailable"),
    },
)
async def export_feedback(
    service: ServiceDep,
    client: AdministratorDep,  # noqa: ARG001
    format: Literal["jsonl", "corpus"] = "jsonl",
) -> StreamingResponse:
    """jsonl: all feedback, one object a line. corpus: a ZIP of the kept pictures with their corrections (or the
    captions rated good), in the layout that `captionist train` reads.
    """
    await _in_store(service, FeedbackStore.ping)  # report an error while there is still a status to report it with
    rows = service.feedback.store.export()
    if format == "jsonl":
        return StreamingResponse(as_jsonl(rows), media_type="application/jsonl")
    headers = {"Content-Disposition": 'attachment; filename="feedback-corpus.zip"'}
    return StreamingResponse(as_corpus(rows), media_type="application/zip", headers=headers)


@router.delete(
    "/v1/feedback/{feedback_id}",
    status_code=204,
    summary="Take feedback back",
    response_description="Deleted",
    responses=responses("unauthorized", "not-found", "rate-limited", "internal", "store-unavailable"),
)
async def delete_feedback(feedback_id: str, service: ServiceDep, client: ClientDep) -> None:  # noqa: ARG001
    """Deletes the feedback and its picture, if that was kept. The id cannot be guessed."""
    # PostgreSQL does not even search for text with a null byte.
    if "\0" in feedback_id or not await _in_store(service, lambda store: store.delete(feedback_id)):
        raise Problem("not-found", "There is no feedback with this id.")


async def _keepable(
    service: Service, asked: FeedbackRequest, picture: bytes | None, record: CaptionRecord
) -> bytes | None:
    """The picture in the form in which it may be kept; None without consent. Raises Problem."""
    if not asked.consent:
        return None
    if not service.settings.keep_pictures:
        raise Problem("pictures-not-kept", "Send the feedback without consent and picture.")
    if picture is None:
        raise Problem("invalid-request", "consent is given, but there is no picture: send it too, as multipart.")

    def reduce() -> bytes:
        if hashlib.sha256(picture).hexdigest() != record.picture_sha256:
            raise Problem("invalid-request", "picture is not the one that the caption describes: send that one.")
        rgb = images.decode(picture, limits=service.settings.image_limits, name=PICTURE_FIELD)
        return images.encode_jpeg(images.thumbnail(rgb, KEPT_SIDE))

    try:
        return await asyncio.to_thread(reduce)
    except ImageError as error:
        raise image_problem(error) from error


async def _in_store(service: Service, work: Callable[[FeedbackStore], _Result]) -> _Result:
    """Run a blocking call of the store. Raises Problem (store-unavailable)."""
    try:
        return await service.feedback.run(work)
    except StoreError as error:
        service.telemetry.store_failed()
        raise Problem("store-unavailable", "Nothing was changed: try again later.", retry_after=_RETRY_AFTER) from error
