"""Caption files: the JSON that `captionist score` reads, checked so that a wrong shape is reported, not scored."""

import json
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from captionist.errors import ScoreError
from captionist.faults import find_faults

_Found = TypeVar("_Found")
_References = dict[str, Annotated[list[str], Field(min_length=1)]]


def load_references(path: Path) -> dict[str, list[str]]:
    """Read {"id": ["reference", ...], ...} from a JSON file in UTF-8.

    Raises ScoreError, naming the file and the expected shape, if it cannot be read, is not JSON, is empty, has an entry
    of another shape, or gives an id twice.
    """
    return _load(path, TypeAdapter(_References), '{"picture id": ["a reference", "another reference"], ...}')


def load_candidates(path: Path) -> dict[str, str]:
    """Read {"id": "caption", ...} from a JSON file in UTF-8. Raises as `load_references` does."""
    return _load(path, TypeAdapter(dict[str, str]), '{"picture id": "the caption", ...}')


def _load(path: Path, adapter: TypeAdapter[_Found], shape: str) -> _Found:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repetition)
        if content == {}:
            raise ValueError("no entries")
        return adapter.validate_python(content, strict=True)
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read ({error.strerror}). Give the path of a JSON file.") from error
    except ValidationError as error:
        raise ScoreError(f"{path}: {find_faults(error)[0]}. Expected {shape}.") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, numbers of thousands of digits, lists in lists in lists
        raise ScoreError(f"{path}: not JSON in UTF-8, or not in the right form ({error}). Expected {shape}.") from error


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f'the id "{key}" appears twice')
        entries[key] = value
    return entries
