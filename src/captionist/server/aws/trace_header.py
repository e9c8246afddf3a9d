"""X-Amzn-Trace-Id, which names a trace: AWS's load balancer adds it to every request.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
"""

import re

from starlette.datastructures import Headers

TRACE_HEADER = "X-Amzn-Trace-Id"
_ROOT = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
_LONGEST = 1000


def trace_root(headers: Headers) -> str | None:
    """The trace's name; None unless there is exactly one, in a valid form.

    It is `Root`, among other fields: `Self=...;Root=1-...;Sampled=1`.
    """
    given = headers.getlist(TRACE_HEADER)
    if len(given) != 1 or len(given[0]) > _LONGEST:
        return None
    fields = (field.strip(" ").partition("=") for field in given[0].split(";"))
    roots = [value for name, _, value in fields if name == "Root"]
    return roots[0] if len(roots) == 1 and _ROOT.fullmatch(roots[0]) else None
