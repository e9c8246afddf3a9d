"""Errors as problem documents (RFC 9457). Every error that the service answers with is one of PROBLEMS."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from captionist.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageFetchError,
    ImageTooLargeError,
    NotAnImageError,
    UnsupportedImageError,
)
from captionist.server.schemas import ProblemDocument

MEDIA_TYPE = "application/problem+json"
_TYPE = "urn:captionist:problem:"

PROBLEMS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be parsed"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden": (403, "This API key may not do that"),
    "not-found": (404, "There is no such resource"),
    "method-not-allowed": (405, "The resource does not support this method"),
    "request-timeout": (408, "The request took too long to arrive"),
    "too-large": (413, "Too many bytes or pixels"),
    "unsupported-media-type": (415, "This type of body is not supported"),
    "not-an-image": (415, "Not a picture"),
    "unsupported-image": (415, "This type of picture is not supported"),
    "corrupt-image": (422, "The picture is damaged or cut short"),
    "empty-image": (422, "The picture has no bytes"),
    "invalid-request": (422, "A field is missing or has a wrong value"),
    "unknown-caption": (422, "This service did not write a caption with that id"),
    "pictures-not-kept": (422, "This service does not keep pictures"),
    "url-refused": (422, "The picture cannot be fetched from that URL"),
    "idempotency-mismatch": (422, "The idempotency key was used for something else"),
    "rate-limited": (429, "Too many requests with this API key"),
    "internal": (500, "Something went wrong in the service"),
    "overloaded": (503, "The service has more requests than it can serve"),
    "not-ready": (503, "The service is starting or stopping"),
    "store-unavailable": (503, "Feedback cannot be stored at the moment"),
    "deadline-exceeded": (504, "The caption took too long"),
}
"""Each problem's status and title, by its stable name: the end of its type."""

_IMAGE_PROBLEMS: dict[type[ImageError], str] = {
    EmptyImageError: "empty-image",
    NotAnImageError: "not-an-image",
    UnsupportedImageError: "unsupported-image",
    CorruptImageError: "corrupt-image",
    ImageTooLargeError: "too-large",
    ImageFetchError: "url-refused",
}


@dataclass
class Problem(Exception):  # noqa: N818 - the word of the RFC
    """Ends a request with a problem document. detail: what is wrong and what to do, for the caller."""

    name: str
    detail: str
    retry_after: float | None = None
    errors: list[dict[str, str]] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return PROBLEMS[self.name][0]

    def document(self, instance: str | None = None) -> dict[str, Any]:
        """The JSON object; instance: the request's id."""
        document = ProblemDocument(
            type=_TYPE + self.name,
            title=PROBLEMS[self.name][1],
            status=self.status,
            detail=self.detail,
            instance=instance,
            errors=self.errors,
        )
        return document.model_dump(exclude_none=True)

    def response(self, request: Request) -> JSONResponse:
        """The answer to a request."""
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(math.ceil(self.retry_after), 1))
        request.state.problem = self.name  # for the log and the metrics
        document = self.document(getattr(request.state, "request_id", None))
        formats: dict[str, ErrorFormat] = request.app.state.error_formats
        path = request.scope["path"]
        error_format = next((formats[start] for start in formats if path.startswith(start)), None)
        if error_format:
            document = error_format(self, document)
        return JSONResponse(document, self.status, headers, MEDIA_TYPE if "type" in document else None)


ErrorFormat = Callable[[Problem, dict[str, Any]], dict[str, Any]]
"""How a problem looks to clients that know another kind of error; the document is passed as well."""


def image_problem(error: ImageError) -> Problem:
    """The HTTP problem for a picture that cannot be read."""
    return Problem(_IMAGE_PROBLEMS.get(type(error), "corrupt-image"), str(error))


def responses(*names: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the problems that an operation may answer with."""
    documented: dict[int | str, dict[str, Any]] = {}
    for name in names:
        status, title = PROBLEMS[name]
        entry = documented.setdefault(
            status, {"description": "", "content": {MEDIA_TYPE: {"schema": _SCHEMA, "examples": {}}}}
        )
        entry["description"] += f"{' / ' if entry['description'] else ''}{title} (`{name}`)"
        example = {"type": _TYPE + name, "title": title, "status": status, "detail": f"{title}.", "instance": "4b1f"}
        entry["content"][MEDIA_TYPE]["examples"][name] = {"value": example}
        if status in _HEADERS:
            header, schema = _HEADERS[status]
            entry["headers"] = {header: {"schema": schema}}
    return documented


_SCHEMA = {"$ref": "#/components/schemas/ProblemDocument"}
_SECONDS = {"type": "integer", "minimum": 1, "description": "seconds"}
_HEADERS: dict[int, tuple[str, dict[str, Any]]] = {
    401: ("WWW-Authenticate", {"const": "Bearer"}),
    429: ("Retry-After", _SECONDS),
    503: ("Retry-After", _SECONDS),
}
