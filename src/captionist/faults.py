"""What pydantic finds wrong with values, in plain words for whoever gave them."""

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import ValidationError

_ALLOWED = re.compile(r"Input should be (.*?)(, (unable to|got a) .*)?", re.DOTALL)
# Pydantic's words for what is allowed, and ours.
_WORDS = {"greater than or equal to": "at least", "less than or equal to": "at most", "greater than": "above"}
_WORDS |= {"less than": "below", "a valid integer": "a whole number", "a valid boolean": "true or false"}
_WORDS |= {"a valid string": "text", "a valid array": "an array", "a valid ": "a "}
_LONGEST = 40  # characters of a name or a value that messages repeat


class Fault(NamedTuple):
    """field: with dots, such as stages.0.epochs; empty if several do not go together. message: what is wrong."""

    field: str
    message: str

    def __str__(self) -> str:
        if not self.field or repr(self.field) in self.message:
            return self.message
        return f"{self.field}{' ' if self.message.startswith(('must ', 'is ')) else ': '}{self.message}"


def find_faults(error: ValidationError, known: Collection[str] = (), quote: bool = False) -> list[Fault]:
    """What is wrong, and what is allowed. known: the names of all fields. quote: also say what was given, if short."""
    return [_fault(fault, known) for fault in error.errors(include_url=False, include_input=quote)]


def _fault(fault: Any, known: Collection[str]) -> Fault:
    field = ".".join(map(str, fault["loc"]))
    message: str = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        message = "is missing"
    elif fault["type"] == "extra_forbidden":
        message = f"unknown option {field[:_LONGEST]!r}"
        if known and len(fault["loc"]) == 1:
            near = "".join(f"did you mean {name}? " for name in get_close_matches(field[:_LONGEST], known, 1))
            message += f": {near}Known: {', '.join(known)}"
    elif allowed := _ALLOWED.fullmatch(message):
        message = f"must be {allowed[1]}"
        for theirs, ours in _WORDS.items():
            message = message.replace(theirs, ours)
        value = fault.get("input", ...)
        if isinstance(value, str | float | None) or (isinstance(value, int) and value.bit_length() < 64):
            message += f", but it is {value!r:.{_LONGEST}}"
    return Fault(field, message)
