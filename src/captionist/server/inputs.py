"""What a request asks to describe: three kinds of body, one result."""

import asyncio
import base64
import binascii
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from captionist.server.bodies import Body
from captionist.server.fetch import Fetcher
from captionist.server.problems import Problem
from captionist.server.schemas import CaptionOptions, CaptionRequest, FeedbackRequest, PictureInput
from captionist.server.together import together

PICTURE_FIELD = "picture"
_MOST_JSON_PARTS = 10_000
_MOST_FAULTS = 10
_MOST_NAME = 100
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(slots=True)
class Picture:
    """Bytes that may be a picture; name: what messages call it; problem: why there are none."""

    name: str
    data: bytes
    problem: Problem | None = None

    def take(self) -> bytes:
        """The bytes, which are the caller's from now on."""
        data, self.data = self.data, b""
        return data


def media_type(request: Request) -> str:
    """The kind of body that a request says it has, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_pictures(
    request: Request, body: Body, max_pictures: int, fetcher: Fetcher | None
) -> tuple[list[Picture], CaptionOptions]:
    """The pictures of a caption request and how to describe them.

    Raises Problem where the body is not of a kind that is read, or not sound.
    """
    kind = media_type(request)
    if kind in ("multipart/form-data", "application/json"):
        for name in request.query_params:  # what is not read should not look as if it were
            raise _invalid(name, "options belong in the body here, beside the pictures")
    if kind == "multipart/form-data":
        fields, pictures = await split_form(await body.read_form(max_pictures + 1))
        options = parse(CaptionOptions, fields)
        if not pictures:
            raise _invalid(PICTURE_FIELD, "send at least one file in this field")
    elif kind == "application/json":
        # Pictures in base64 take long enough to parse that others would notice.
        asked = await asyncio.to_thread(parse_json, CaptionRequest, await body.read())
        options = CaptionOptions(**asked.model_dump(exclude={"pictures"}))
        _check_count(len(asked.pictures), max_pictures)
        async with together() as group:  # what is fetched is counted as the body's, so that nothing may outlive it
            tasks = [group.create_task(_picture(entry, n, body, fetcher)) for n, entry in enumerate(asked.pictures, 1)]
        pictures = [task.result() for task in tasks]
    elif kind.startswith("image/") or kind == "application/octet-stream":
        options = parse(CaptionOptions, query_fields(request))
        pictures = [Picture("the picture", await body.read())]
    else:
        raise Problem(
            "unsupported-media-type",
            f"The body is {_shown(kind) or 'of no stated type'}: "
            "send multipart/form-data, application/json or image/*.",
        )
    _check_count(len(pictures), max_pictures)
    return pictures, options


async def read_feedback(request: Request, body: Body) -> tuple[FeedbackRequest, bytes | None]:
    """Feedback, and the picture that came along. Raises Problem."""
    kind = media_type(request)
    if kind == "application/json":
        return await asyncio.to_thread(parse_json, FeedbackRequest, await body.read()), None
    if kind == "multipart/form-data":
        fields, pictures = await split_form(await body.read_form(1))
        return parse(FeedbackRequest, fields), pictures[0].data if pictures else None
    raise Problem(
        "unsupported-media-type",
        f"The body is {_shown(kind) or 'of no stated type'}: send application/json or multipart/form-data.",
    )


async def split_form(form: FormData) -> tuple[dict[str, str], list[Picture]]:
    """A form's fields, and its pictures. Raises Problem for a field that comes twice or a file in another field."""
    fields: dict[str, str] = {}
    pictures: list[Picture] = []
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != PICTURE_FIELD:
                    raise _invalid(name, f"files belong in the field `{PICTURE_FIELD}`")
                name = _shown(value.filename or f"picture {len(pictures) + 1}")
                pictures.append(Picture(name, await value.read()))
            elif name in fields:
                raise _invalid(name, "this field comes twice")
            elif value:  # an empty field of a form is one that was not filled in
                fields[name] = value
    finally:
        await form.close()
    return fields, pictures


def query_fields(request: Request) -> dict[str, str]:
    """The query's parameters. Raises Problem for one that comes twice."""
    fields: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in fields:
            raise _invalid(name, "this parameter comes twice")
        fields[name] = value
    return fields


def parse(model: type[_Model], fields: dict[str, str]) -> _Model:
    """Fields as a model. Raises Problem naming each wrong one."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _wrong_fields(error) from error


def parse_json(model: type[_Model], body: bytes) -> _Model:
    """A JSON body as a model. Raises Problem naming each wrong field."""
    # Once parsed, a few bytes of such a part are hundreds: a small body could fill the memory. Pictures have none.
    if sum(body.count(mark) for mark in b"[{,") > _MOST_JSON_PARTS:
        raise Problem("bad-request", f"The body is JSON of more than {_MOST_JSON_PARTS:,} parts.")
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        if any(fault["type"] == "json_invalid" for fault in error.errors(include_input=False)):
            raise Problem("bad-request", "The body is not valid JSON.") from error
        raise _wrong_fields(error) from error


async def _picture(entry: PictureInput, number: int, body: Body, fetcher: Fetcher | None) -> Picture:
    name = f"picture {number}"
    if (entry.data is None) == (entry.url is None):
        raise _invalid(f"pictures.{number - 1}", "give one of data and url")
    if entry.data is not None:
        return Picture(name, await asyncio.to_thread(_decode_base64, entry.data, number))
    if fetcher is None:
        raise Problem("url-refused", "This service fetches no URLs: send the picture itself.")
    assert entry.url is not None
    try:
        return Picture(name, await fetcher.fetch(entry.url, body.hold_more))
    except Problem as problem:
        return Picture(name, b"", problem)


def _decode_base64(text: str, number: int) -> bytes:
    if text.startswith("data:"):
        header, comma, text = text.partition(",")
        if not comma or not header.endswith(";base64"):
            raise _invalid(f"pictures.{number - 1}.data", "a data: URI must have the form data:image/png;base64,...")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"pictures.{number - 1}.data", "this is not base64") from error


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise _invalid("pictures", f"at most {most} pictures in a request")


def _shown(name: str) -> str:
    """What a client called something, as it may be repeated: not long, and only what is seen."""
    seen = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return seen if len(seen) <= _MOST_NAME else f"{seen[:_MOST_NAME]}..."


def _invalid(field: str, message: str) -> Problem:
    field = _shown(field)
    return Problem("invalid-request", f"{field}: {message}.", errors=[{"field": field, "message": message}])


def _wrong_fields(error: ValidationError) -> Problem:
    faults = [
        {"field": _shown(".".join(map(str, fault["loc"]))) or "body", "message": fault["msg"]}
        for fault in error.errors(include_input=False, include_url=False)[:_MOST_FAULTS]
    ]
    return Problem("invalid-request", "; ".join(f"{f['field']}: {f['message']}" for f in faults) + ".", errors=faults)
