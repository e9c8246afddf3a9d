"""What a request asks to describe: three kinds of body, one result."""

import asyncio
import base64
import binascii
import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from captionist.errors import ImageError
from captionist.faults import Fault, find_faults
from captionist.server.bodies import PICTURE_FIELD, Body
from captionist.server.problems import Problem, image_problem
from captionist.server.schemas import CaptionOptions, CaptionRequest, FeedbackRequest, PictureInput
from captionist.server.settings import Settings
from captionist.server.task_groups import task_group

_BASE64 = bytes.maketrans(b"-_", b"+/")  # of two alphabets; no letter means different things in the two
_ESCAPES = ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"="), (b"%0A", b"\n"), (b"%0D", b"\r"))
_MOST_JSON_PARTS = 10_000
_MOST_FAULTS = 10
_MOST_NAME = 100
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(slots=True)
class Picture:
    """Bytes that may be a picture; name: what messages call it; problem: why there are no bytes."""

    name: str
    data: bytes
    problem: Problem | None = None

    def take(self) -> bytes:
        """The bytes, which now belong to the caller."""
        data, self.data = self.data, b""
        return data


def media_type(request: Request) -> str:
    """The kind of body that a request says it has, without parameters; if it says nothing, arbitrary bytes."""
    return (request.headers.get("content-type") or "application/octet-stream").partition(";")[0].strip().lower()


async def read_pictures(request: Request, body: Body, settings: Settings) -> tuple[list[Picture], CaptionOptions]:
    """The pictures of a caption request and how to describe them.

    Raises Problem if the body is of an unknown kind, or invalid.
    """
    kind = media_type(request)
    if kind in ("multipart/form-data", "application/json"):
        for name in request.query_params:  # what is ignored should not look as if it counted
            raise _invalid(name, "options belong in the body here, beside the pictures")
    if kind == "multipart/form-data":
        fields, pictures = await split_form(await body.read_form(settings.max_pictures + 1))
        options = parse(CaptionOptions, fields)
        if not pictures:
            raise _invalid(PICTURE_FIELD, "send at least one file in this field")
    elif kind == "application/json":
        # Base64 pictures take long enough to parse that other requests would notice.
        asked = await asyncio.to_thread(parse_json, CaptionRequest, await body.read())
        options = CaptionOptions(**asked.model_dump(exclude={"pictures"}))
        entries = {_field(index, entry): entry for index, entry in enumerate(asked.pictures)}
        pictures = await load_pictures(entries, body, settings)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        options = parse(CaptionOptions, query_fields(request))
        pictures = [Picture("the picture", await body.read())]
    else:
        raise _unsupported(kind, "send multipart/form-data, application/json or image/*")
    _check_count(len(pictures), settings.max_pictures)
    return pictures, options


async def load_pictures(entries: Mapping[str, PictureInput], body: Body, settings: Settings) -> list[Picture]:
    """Pictures in JSON, decoded or fetched; entries: each by the name of its field. Raises Problem."""
    _check_count(len(entries), settings.max_pictures)
    async with task_group() as group:  # what is fetched counts towards the body, so nothing may outlive it
        tasks = [
            group.create_task(_picture(field, entry, f"picture {number}", body, settings.max_picture_bytes))
            for number, (field, entry) in enumerate(entries.items(), 1)
        ]
    return [task.result() for task in tasks]


async def read_feedback(request: Request, body: Body) -> tuple[FeedbackRequest, bytes | None]:
    """Feedback, and the picture that came with it. Raises Problem."""
    kind = media_type(request)
    if kind == "application/json":
        return await asyncio.to_thread(parse_json, FeedbackRequest, await body.read()), None
    if kind == "multipart/form-data":
        fields, pictures = await split_form(await body.read_form(1))
        return parse(FeedbackRequest, fields), pictures[0].data if pictures else None
    raise _unsupported(kind, "send application/json or multipart/form-data")


async def split_form(form: FormData) -> tuple[dict[str, str], list[Picture]]:
    """A form's fields, and its pictures. Raises Problem for a field that comes twice or a file in another field."""
    fields: dict[str, str] = {}
    pictures: list[Picture] = []
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != PICTURE_FIELD:
                    raise _invalid(name, f"files belong in the field `{PICTURE_FIELD}`")
                data = await value.read()
                if not value.filename and not data:  # a field left empty
                    continue
                if not value.filename and data[:_MOST_NAME].decode("utf-8", "ignore").isprintable():
                    raise _invalid(
                        name, f"this is text, not a file; curl needs an @ before the path: -F {name}=@photo.jpg"
                    )
                shown = _shown(value.filename or f"picture {len(pictures) + 1}")
                pictures.append(Picture(shown, data))
            elif name in fields:
                raise _invalid(name, "this field is given twice")
            elif value:  # an empty field is one left empty
                fields[name] = value
    finally:
        await form.close()
    return fields, pictures


def query_fields(request: Request) -> dict[str, str]:
    """The query's parameters. Raises Problem for one that comes twice."""
    fields: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in fields:
            raise _invalid(name, "this parameter is given twice")
        fields[name] = value
    return fields


def parse(model: type[_Model], fields: dict[str, str]) -> _Model:
    """Validate fields as a model. Raises Problem naming each wrong one."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _wrong_fields(find_faults(error, model.model_fields)) from error


def parse_json(model: type[_Model], body: bytes) -> _Model:
    """Validate a JSON body as a model. Raises Problem naming each wrong field."""
    # Once parsed, each such part takes hundreds of bytes: a small body could fill the memory. Pictures have none.
    if sum(body.count(mark) for mark in b"[{,") > _MOST_JSON_PARTS:
        raise Problem("bad-request", f"The body is JSON of more than {_MOST_JSON_PARTS:,} parts.")
    try:
        return model.model_validate_json(body.removeprefix(codecs.BOM_UTF8), strict=True)
    except ValidationError as error:
        if any(fault["type"] == "json_invalid" for fault in error.errors(include_input=False)):
            raise Problem("bad-request", "The body is not valid JSON in UTF-8.") from error
        raise _wrong_fields(find_faults(error, model.model_fields)) from error


def _field(index: int, entry: PictureInput) -> str:
    if (entry.data is None) == (entry.url is None):
        raise _invalid(f"pictures.{index}", "give either data or url")
    return f"pictures.{index}.{'url' if entry.data is None else 'data'}"


async def _picture(field: str, entry: PictureInput, name: str, body: Body, max_bytes: int) -> Picture:
    if entry.data is not None:
        # Decoding makes several copies of it. Line breaks and escapes take some of its length, but less than half.
        if len(entry.data) > 2 * max_bytes:
            return Picture(name, b"", Problem("too-large", f"{name} has more than {max_bytes:,} bytes: scale it down."))
        return Picture(name, await asyncio.to_thread(_decode_base64, entry.data, field))
    assert entry.url is not None
    try:
        return Picture(name, await body.fetch(entry.url))
    except ImageError as error:
        return Picture(name, b"", image_problem(error))
    except Problem as problem:
        return Picture(name, b"", problem)


def _decode_base64(text: str, field: str) -> bytes:
    """Base64 as people send it: with line breaks, without padding, in the URL alphabet. Raises Problem."""
    text = text.strip()
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise _invalid(field, "a data: URI must have the form data:image/png;base64,...")
    elif "://" in text[:10]:
        raise _invalid(field, "this is a URL: it belongs in url")
    try:
        data = text.encode("ascii")
        for escaped, meant in _ESCAPES if b"%" in data else ():
            data = data.replace(escaped, meant).replace(escaped.lower(), meant)
        data = b"".join(line.strip() for line in data.splitlines()).translate(_BASE64).rstrip(b"=")
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        spaces = ", because it has spaces: was each of them once a +?" if " " in text else ""
        raise _invalid(field, f"this is not base64{spaces}") from error


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise _invalid("pictures", f"at most {most} pictures are allowed in a request")


def _shown(name: str) -> str:
    """A client's name for something, fit to be repeated: short, and only printable characters."""
    seen = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return seen if len(seen) <= _MOST_NAME else f"{seen[:_MOST_NAME]}..."


def _unsupported(kind: str, instead: str) -> Problem:
    if kind == "application/x-www-form-urlencoded":  # curl's default for -d and --data-binary
        instead += "; with curl, -F picture=@photo.jpg"
    return Problem("unsupported-media-type", f"The body is {_shown(kind) or 'of no stated type'}: {instead}.")


def _invalid(field: str, message: str) -> Problem:
    return _wrong_fields([Fault(field, message)])


def _wrong_fields(faults: list[Fault]) -> Problem:
    shown = [fault._replace(field=_shown(fault.field) or "body") for fault in faults[:_MOST_FAULTS]]
    return Problem("invalid-request", f"{'; '.join(map(str, shown))}.", errors=[fault._asdict() for fault in shown])
