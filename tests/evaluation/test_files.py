import json
from pathlib import Path
from typing import Any

import pytest

from captionist.errors import ScoreError
from captionist.evaluation.files import Kind, load_caption_file
from tests.evaluation.samples import CANDIDATES, REFERENCES


def test_both_kinds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"

    path.write_text(json.dumps(REFERENCES), encoding="utf-8")
    assert load_caption_file(path, "references") == REFERENCES
    path.write_text("\ufeff" + json.dumps({**CANDIDATES, "caf\u00e9": ""}, ensure_ascii=False), encoding="utf-8")
    assert load_caption_file(path, "candidates") == {**CANDIDATES, "caf\u00e9": ""}


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("references", [{"a": ["b"]}], "a list at the top"),
        ("references", "text", "a string at the top"),
        ("references", {}, "no entries"),
        ("references", {"a": ["b"], "c": "a dog"}, '"c" holds a string where a list of references is due'),
        ("references", {"a": []}, '"a" holds an empty list'),
        ("references", {"a": ["b", None]}, '"a" holds null among its references'),
        ("references", {"a": [["b", "c"]]}, '"a" holds a list among its references'),
        ("candidates", ["a dog"], "a list at the top"),
        ("candidates", {}, "no entries"),
        ("candidates", {"a": ["a dog"]}, '"a" holds a list where one caption, a string, is due'),
        ("candidates", {"a": None}, '"a" holds null'),
        ("candidates", {"a": {"caption": "a dog"}}, '"a" holds an object'),
        ("candidates", {"a": 5}, '"a" holds a number'),
    ],
)
def test_a_wrong_shape_is_named_with_the_right_one(kind: Kind, content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(ScoreError) as error:
        load_caption_file(path, kind)

    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert '{"picture id": ' in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": "a dog",', "not JSON"),
        (b"", "not JSON"),
        ('{"caf\u00e9": "a dog"}'.encode("latin-1"), "not UTF-8"),
        (b"[" * 200_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": "a dog", "a": "a cat"}', 'the id "a" is there twice'),
    ],
)
def test_a_file_that_is_no_clean_json_is_an_error(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(content)

    with pytest.raises(ScoreError, match=message):
        load_caption_file(path, "candidates")


def test_a_path_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(ScoreError, match="cannot be read"):
            load_caption_file(path, "references")
