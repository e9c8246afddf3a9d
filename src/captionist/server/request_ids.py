"""What a request is called: by its client, by the load balancer in front of us, or by us."""

import re
import uuid

from starlette.datastructures import Headers

TRACE_HEADER = "X-Amzn-Trace-Id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._=:;-]{1,128}")
_ROOT = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
_LONGEST = 1000


def request_id(headers: Headers, root: str | None) -> str:
    """`X-Request-ID` where it is harmless to repeat, else the trace's root, else a new id."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else root or uuid.uuid4().hex


def trace_root(headers: Headers) -> str | None:
    """The `Root` of `X-Amzn-Trace-Id`, which names a trace; None where there is not exactly one that is sound.

    A load balancer of AWS puts it into every request, among other fields: `Self=...;Root=1-...;Sampled=1`.
    """
    given = headers.getlist(TRACE_HEADER)
    if len(given) != 1 or len(given[0]) > _LONGEST:
        return None
    fields = (field.strip(" ").partition("=") for field in given[0].split(";"))
    roots = [value for name, _, value in fields if name == "Root"]
    return roots[0] if len(roots) == 1 and _ROOT.fullmatch(roots[0]) else None
