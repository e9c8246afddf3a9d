import json
from pathlib import Path
from typing import Any

import pytest

from captionist.errors import ScoreError
from captionist.evaluation.files import load_candidates, load_references
from tests.evaluation.samples import CANDIDATES, REFERENCES


def test_both_kinds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(REFERENCES), encoding="utf-8")
    assert load_references(path) == REFERENCES
    path.write_text("\ufeff" + json.dumps({**CANDIDATES, "caf\u00e9": ""}, ensure_ascii=False), encoding="utf-8")
    assert load_candidates(path) == {**CANDIDATES, "caf\u00e9": ""}


@pytest.mark.parametrize(
    ("load", "content", "message"),
    [
        (load_references, [{"a": ["b"]}], "must be a dictionary"),
        (load_references, {}, "no entries"),
        (load_references, {"a": ["b"], "c": "a dog"}, "c must be a list"),
        (load_references, {"a": []}, "at least 1 item"),
        (load_references, {"a": ["b", None]}, r"a\.1 must be text"),
        (load_candidates, {"a": ["a dog"]}, "a must be text"),
        (load_candidates, {"a": 5}, "a must be text"),
        (load_candidates, b'{"a": "a dog",', "not JSON"),
        (load_candidates, '{"caf\u00e9": "a dog"}'.encode("latin-1"), "UTF-8"),
        (load_candidates, b"[" * 200_000, "not JSON"),
        (load_candidates, b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (load_candidates, b'{"a": "a dog", "a": "a cat"}', 'the id "a" appears twice'),
    ],
)
def test_a_wrong_file_is_named_with_the_right_shape(load: Any, content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ScoreError, match=rf'captions\.json: .*{message}.*Expected {{"picture id": '):
        load(path)


def test_a_path_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(ScoreError, match="cannot be read"):
            load_references(path)
