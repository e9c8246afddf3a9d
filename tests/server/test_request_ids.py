"""What requests are called: X-Request-ID, X-Amzn-Trace-Id, or a new id."""

import re
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from captionist.server.aws import trace_root
from captionist.server.request_ids import request_id
from tests.server.serving import Running

ROOT = "1-67891233-abcdef012345678912345678"
NEW = re.compile(r"[0-9a-f]{32}")


def headers(*given: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in given])


def root_of(*values: str) -> str | None:
    return trace_root(headers(*(("X-Amzn-Trace-Id", value) for value in values)))


@pytest.mark.parametrize(
    "value",
    [
        f"Root={ROOT}",
        f"Self=1-67891234-12456789abcdef012345678a;Root={ROOT}",
        f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1",
        f"Root={ROOT}; Parent=53995c3f42cd8ad8; Sampled=0; Lineage=25:1a2b3c4d:0",
    ],
)
def test_the_load_balancers_trace_is_found_among_other_fields(value: str) -> None:
    assert root_of(value) == ROOT


@pytest.mark.parametrize(
    "values",
    [
        (),
        (ROOT,),
        (f"Self={ROOT}",),
        (f"Root={ROOT.upper()}",),
        (f"Root={ROOT[:-1]}",),
        (f"Root={ROOT}\r\nSet-Cookie: a=b",),
        (f"Root=2{ROOT[1:]}",),
        (f"Root={ROOT[:-1]}\xb2",),
        (f"Root={ROOT};Root={ROOT[:-1]}9",),
        (f"Root={ROOT}", f"Root={ROOT}"),
        (f"Root={ROOT};" + "x" * 1000,),
    ],
)
def test_a_trace_that_is_not_sound_is_none(values: tuple[str, ...]) -> None:
    assert root_of(*values) is None


@pytest.mark.parametrize("given", ["two words", "", "a" * 129, "caf\xe9", "<b>", "a\r\nb"])
def test_an_id_that_is_not_harmless_is_not_repeated(given: str) -> None:
    assert request_id(headers(("X-Request-ID", given)), ROOT) == ROOT
    assert NEW.fullmatch(request_id(headers(("X-Request-ID", given)), None))


def test_the_clients_id_comes_first_and_is_otherwise_new_each_time() -> None:
    assert request_id(headers(("X-Request-ID", "mine-1")), ROOT) == "mine-1"
    assert request_id(headers(), None) != request_id(headers(), None)


def test_an_answer_names_the_request_as_the_load_balancer_does(client: TestClient) -> None:
    answer = client.get("/nowhere", headers={"X-Amzn-Trace-Id": f"Root={ROOT}"})
    assert answer.headers["x-request-id"] == answer.json()["instance"] == ROOT


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Running(tmp_path_factory.mktemp("ids")) as started:
        yield started


def logged(service: Running, *lines: str) -> dict[str, Any]:
    """The log's line for a request with these header lines."""
    path = f"/there-is-no-{uuid.uuid4()}"
    service.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *lines, "", ""]).encode())
    return service.line(path=path)


def test_the_log_has_the_trace_where_it_is_not_the_requests_id(service: Running) -> None:
    both = logged(service, "X-Request-ID: mine-1", f"X-Amzn-Trace-Id: Root={ROOT}")
    assert (both["request_id"], both["trace_id"]) == ("mine-1", ROOT)
    only = logged(service, f"x-amzn-trace-id: Self=1-67891234-12456789abcdef012345678a;Root={ROOT}")
    assert (only["request_id"], "trace_id" in only) == (ROOT, False)
    neither = logged(service)
    assert NEW.fullmatch(neither["request_id"])
    assert "trace_id" not in neither


@pytest.mark.parametrize(
    "line",
    [
        "X-Amzn-Trace-Id: Root=" + "1-" * 20_000,
        'X-Request-ID: {"event": "forged"}',
        "X-Request-ID: " + "a" * 50_000,
    ],
)
def test_hostile_headers_get_a_new_id_and_a_short_line(service: Running, line: str) -> None:
    found = logged(service, line)
    assert NEW.fullmatch(found["request_id"])
    assert len(str(found)) < 600
    assert "forged" not in str(found)
    assert service.errors.read_text() == ""
