"""Caption files: the JSON that `captionist score` reads, checked so that a wrong shape is named and not scored."""

import json
from pathlib import Path
from typing import Literal, overload

from captionist.errors import ScoreError

Kind = Literal["references", "candidates"]

_SHAPES = {
    "references": '{"picture id": ["a reference", "another reference"], ...}',
    "candidates": '{"picture id": "the caption", ...}',
}


@overload
def load_caption_file(path: Path, kind: Literal["references"]) -> dict[str, list[str]]: ...


@overload
def load_caption_file(path: Path, kind: Literal["candidates"]) -> dict[str, str]: ...


def load_caption_file(path: Path, kind: Kind) -> dict[str, list[str]] | dict[str, str]:
    """Read a JSON file (UTF-8) of references, {"id": ["reference", ...]}, or of candidates, {"id": "caption"}.

    Raises ScoreError, naming the file and the shape expected, if it cannot be read, is not JSON, gives an id twice, is
    not an object or has no entry, or if an entry is not of the kind's shape.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repetition)
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read ({error.strerror}). Give the path of a JSON file.") from error
    except UnicodeDecodeError as error:
        raise ScoreError(f"{path}: not UTF-8 text. Save it as UTF-8 JSON: {_SHAPES[kind]}.") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and lists in lists in lists
        raise ScoreError(f"{path}: not JSON ({error}). Expected {_SHAPES[kind]}.") from error
    except _RepeatedIdError as error:
        raise ScoreError(f'{path}: the id "{error}" is there twice. Keep one entry for every picture.') from error
    if not isinstance(content, dict):
        raise ScoreError(f"{path}: {_kind_of(content)} at the top. Expected an object: {_SHAPES[kind]}.")
    if not content:
        raise ScoreError(f"{path}: no entries. Expected {_SHAPES[kind]}.")
    check = _check_references if kind == "references" else _check_candidate
    for picture, entry in content.items():
        if problem := check(entry):
            raise ScoreError(f'{path}: "{picture}" holds {problem}. Expected {_SHAPES[kind]}.')
    return content


class _RepeatedIdError(Exception):
    pass


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for key, value in pairs:
        if key in entries:
            raise _RepeatedIdError(key)
        entries[key] = value
    return entries


def _check_references(entry: object) -> str:
    """Return what is wrong with a picture's references, or nothing."""
    if not isinstance(entry, list):
        return f"{_kind_of(entry)} where a list of references is due"
    if not entry:
        return "an empty list: a picture without references cannot be scored"
    wrong = [item for item in entry if not isinstance(item, str)]
    return f"{_kind_of(wrong[0])} among its references, which must be strings" if wrong else ""


def _check_candidate(entry: object) -> str:
    """Return what is wrong with a picture's candidate, or nothing."""
    return "" if isinstance(entry, str) else f"{_kind_of(entry)} where one caption, a string, is due"


def _kind_of(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
