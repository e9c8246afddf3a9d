"""The OpenAPI document: complete, sound, and true of the running service."""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any, cast
from unittest.mock import Mock

import jsonschema_rs
import pytest
import schemathesis
from schemathesis.checks import CheckFunction
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from captionist.server.app import create_app
from captionist.server.problems import MEDIA_TYPE, PROBLEMS
from captionist.server.settings import Settings
from tests.images.samples import SAMPLES
from tests.server.serving import Running

# The routes are collected before any service runs, so this document is made without one.
DOCUMENT = create_app(Mock(settings=Settings())).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
API = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=SchemathesisConfig.from_dict(
        {"seed": 1, "generation": {"max-examples": 20, "deterministic": True, "database": "none"}}
    ),
)
PICTURE = SAMPLES["png"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("openapi"), keep_pictures="true", deadline="120") as started:
        yield started


@pytest.fixture(scope="module")
def caption_id(service: Running) -> str:
    return str(service.ask("/v1/captions", PICTURE).json()["pictures"][0]["id"])


@pytest.mark.slow
@API.parametrize()
def test_what_the_document_says_is_so(case: "schemathesis.Case[Any]", service: Running, caption_id: str) -> None:
    excluded: list[CheckFunction] = []
    if case.path == "/v1/captions" and case.media_type not in ("application/json", "multipart/form-data"):
        excluded = [positive_data_acceptance]  # any bytes will do, the document says
    elif case.meta and case.meta.generation.mode.is_positive:
        make_true(case, caption_id)
    case.call_and_validate(base_url=service.url, excluded_checks=excluded)


def make_true(case: "schemathesis.Case[Any]", caption_id: str) -> None:
    """What a schema cannot say: that a file is a picture, that an id is genuine, and what goes together."""
    body = cast(dict[str, Any], case.body)
    if case.path == "/v1/captions":
        case.query = {}
        as_json = case.media_type == "application/json"
        one = {"data": base64.b64encode(PICTURE).decode()} if as_json else PICTURE
        field = "pictures" if as_json else "picture"
        body[field] = [one] * min(len(body[field]), 3)
        body.pop("num_beams", None)
        body.pop("retrieved", None)  # which a model without a bank refuses
    elif case.path == "/v1/feedback" and case.method == "POST":
        body["caption_id"] = caption_id
        if "picture" in body:
            body["picture"] = PICTURE
        else:
            body["consent"] = False
        if "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = uuid.uuid4().hex


def test_every_operation_says_what_it_does() -> None:
    for name, operation in OPERATIONS.items():
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        for status, response in operation["responses"].items():
            assert response["description"] not in ("", "Successful Response"), (name, status)


def test_every_problem_is_documented_where_it_may_come() -> None:
    found: dict[str, set[str]] = {}
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            shown = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
            assert bool(shown) == (int(status) >= 400), (name, status)
            assert {example["value"]["status"] for example in shown.values()} <= {int(status)}, name
            found.setdefault(name, set()).update(shown)
    # The document says nothing about paths and methods that are not in it.
    assert set.union(*found.values()) == PROBLEMS.keys() - {"method-not-allowed"}
    for name, operation in OPERATIONS.items():
        takes_a_key = operation.get("security") != []
        assert ({"unauthorized", "rate-limited"} <= found[name]) == takes_a_key, name
        assert ({"bad-request", "too-large", "request-timeout"} <= found[name]) == ("requestBody" in operation), name
        assert "internal" in found[name], name


def test_what_asks_for_patience_says_how_long() -> None:
    for name, operation in OPERATIONS.items():
        for status, header in (("401", "WWW-Authenticate"), ("429", "Retry-After"), ("503", "Retry-After")):
            assert header in operation["responses"].get(status, {"headers": {header: {}}})["headers"], name


def test_examples_are_as_their_schemas_say() -> None:
    count = 0
    for schema, example in examples(DOCUMENT):
        validator = jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]})
        assert validator.is_valid(example), (schema, example)
        count += 1
    assert count > 40
    for name in ("CaptionRequest", "FeedbackRequest", "CaptionResponse", "FeedbackResponse", "ModelsResponse"):
        assert DOCUMENT["components"]["schemas"][name]["examples"]


def examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every example in a part of the document, with its schema."""
    if isinstance(node, list):
        for each in node:
            yield from examples(each)
    elif isinstance(node, dict):
        if isinstance(node.get("examples"), list):
            yield from ((node, example) for example in node["examples"])
        elif isinstance(node.get("examples"), dict) and "schema" in node:
            yield from ((node["schema"], example["value"]) for example in node["examples"].values())
        for each in node.values():
            yield from examples(each)


def test_every_reference_leads_somewhere() -> None:
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(DOCUMENT)):
        assert reference in DOCUMENT["components"]["schemas"]


def test_the_running_service_has_this_very_document(service: Running) -> None:
    assert service.ask("/openapi.json").json() == json.loads(json.dumps(DOCUMENT))


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    API.validate()
