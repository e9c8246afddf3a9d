"""A request's id: the client's, the load balancer's in front of us, or our own."""

import re
import uuid

from starlette.datastructures import Headers

_REQUEST_ID = re.compile(r"[A-Za-z0-9._=:;-]{1,128}")


def request_id(headers: Headers, trace: str | None) -> str:
    """`X-Request-ID` if it is harmless to repeat, else the name of the request's trace, else a new id."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else trace or uuid.uuid4().hex
