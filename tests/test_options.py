"""The options of a search: one definition for Python, command line, service, recipes and bundles."""

import json
import pickle
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel, ValidationError

from captionist import Captioner, Sampling, SearchOptions
from captionist.bundle import BundleConfig
from captionist.commands.caption import caption
from captionist.commands.scores import evaluate
from captionist.faults import find_faults
from captionist.options import SearchOverrides
from captionist.server.schemas import MOST_BEAMS_SERVED, CaptionOptions, CaptionRequest
from tests.pictures import patchwork

KNOWN = ", ".join(SearchOptions.model_fields)
PROPERTIES = SearchOptions.model_json_schema()["properties"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 3}, f"unknown option 'beams': did you mean num_beams? Known: {KNOWN}"),
        ({"colour": 3}, f"unknown option 'colour': Known: {KNOWN}"),
        ({"num_beams": 0}, "num_beams must be at least 1, but it is 0"),
        ({"num_beams": 1001}, "num_beams must be at most 1000, but it is 1001"),
        ({"num_beams": 10**5000}, "num_beams must be at most 1000"),
        ({"num_beams": "3"}, "num_beams must be a whole number, but it is '3'"),
        ({"num_beams": True}, "num_beams must be a whole number, but it is True"),
        ({"num_beams": 3.0}, "num_beams must be a whole number, but it is 3.0"),
        ({"num_beams": None}, "num_beams must be a whole number, but it is None"),
        ({"num_beams": [3]}, "num_beams must be a whole number"),
        ({"max_words": 0}, "max_words must be at least 1, but it is 0"),
        ({"length_penalty": float("nan")}, "length_penalty must be a finite number, but it is nan"),
        ({"length_penalty": float("-inf")}, "length_penalty must be a finite number, but it is -inf"),
        ({"length_penalty": 10.5}, "length_penalty must be at most 10, but it is 10.5"),
        ({"match_weight": "1"}, "match_weight must be a number, but it is '1'"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0, but it is 0"),
        ({"retrieved": 51}, "retrieved must be at most 50, but it is 51"),
        ({"min_tokens": 31}, "min_tokens must be at most max_tokens (30), not 31"),
        ({"num_captions": 4}, "num_captions must be at most num_beams (3), not 4"),
        ({"sample": {"temperature": 0}}, "sample: temperature must be at least 0.01, but it is 0"),
        (
            {"num_beams": 0, "max_tokens": 0},
            "num_beams must be at least 1, but it is 0; max_tokens must be at least 1, but it is 0",
        ),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - all of the message is compared
        SearchOptions(**options)
    assert str(caught.value) == message
    assert caught.value.__suppress_context__


def test_a_bundle_s_section_says_the_same(captioner: Captioner) -> None:
    content = json.loads(captioner.bundle.config.model_dump_json())
    content["search"] = {"num_beam": 3}
    with pytest.raises(ValidationError) as caught:
        BundleConfig.model_validate_json(json.dumps(content), strict=True)
    [fault] = find_faults(caught.value)
    assert str(fault) == f"search: unknown option 'num_beam': did you mean num_beams? Known: {KNOWN}"


def test_a_captioner_says_which_options_there_are(captioner: Captioner) -> None:
    with pytest.raises(ValueError, match=r"unknown option 'beams': did you mean num_beams\?"):
        captioner.caption(patchwork(1), beams=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("changes", [{"num_captions": "5"}, {"num_captions": True}, {"num_captions": 5000}])
def test_one_wrong_change_is_one_fault(changes: Any) -> None:
    with pytest.raises(ValueError, match=r"^num_captions must be [^;]*$"):
        SearchOptions().override(**changes)


def test_overrides_are_the_very_fields() -> None:
    assert get_type_hints(SearchOverrides) == {name: f.annotation for name, f in SearchOptions.model_fields.items()}


def test_options_are_values() -> None:
    options = SearchOptions(num_beams=5, sample=Sampling(seed=3))
    assert pickle.loads(pickle.dumps(options)) == options
    assert len({options, SearchOptions(num_beams=5, sample=Sampling(seed=3)), SearchOptions()}) == 2
    assert SearchOptions.model_validate_json(options.model_dump_json()) == options
    with pytest.raises(ValidationError):
        options.num_beams = 3  # type: ignore[misc]


@pytest.mark.parametrize("command", [caption, evaluate])
def test_the_command_line_has_the_limits_of_the_fields(command: Callable[..., None]) -> None:
    found = {name: hint for name, hint in get_type_hints(command, include_extras=True).items() if name in PROPERTIES}
    assert {"num_beams", "retrieved"} <= found.keys()
    for name, hint in found.items():
        [option], schema = hint.__metadata__, numbers(PROPERTIES[name])
        assert (option.min, option.max) == (schema["minimum"], schema["maximum"])
        assert option.help.lower() == f"{PROPERTIES[name]['description']}.".lower()


@pytest.mark.parametrize("model", [CaptionOptions, CaptionRequest])
def test_the_service_has_the_fields_and_fewer_beams(model: type[BaseModel]) -> None:
    served = {name: s for name, s in model.model_json_schema()["properties"].items() if name in PROPERTIES}
    assert {"num_beams", "num_captions", "retrieved", "max_words"} == served.keys()
    for name, schema in served.items():
        narrowed = {"maximum": MOST_BEAMS_SERVED} if name in ("num_beams", "num_captions") else {}
        assert numbers(schema) == numbers(PROPERTIES[name]) | narrowed
        assert schema["description"] == PROPERTIES[name]["description"]


def numbers(schema: dict[str, Any]) -> dict[str, Any]:
    """What a JSON schema says of the numbers that it allows."""
    own = schema["anyOf"][0] if "anyOf" in schema else schema
    return {key: own[key] for key in ("type", "minimum", "maximum")}
