"""As much of CloudWatch Logs Insights' language as docs/logs.md uses, and not a word more."""

import re
from dataclasses import dataclass, field

_NAME = r"@?[a-z_][a-z0-9_]*"
_VALUE = r'(?:"[^"\\|]*"|\d+)'
_CONDITION = rf"{_NAME} (?:(?:=|!=|<|<=|>|>=) {_VALUE}|in \[{_VALUE}(?:, {_VALUE})*\])"
_AGGREGATE = rf"(?:count\(\*\)|pct\({_NAME}, (?:100|\d\d?(?:\.\d+)?)\)) as {_NAME}"
_KEY = rf"(?:bin\(\d+[smhd]\)|{_NAME})"
_COMMANDS = {
    "filter": rf"{_CONDITION}(?: (?:and|or) {_CONDITION})*",
    "fields": rf"{_NAME}(?:, {_NAME})*",
    "stats": rf"{_AGGREGATE}(?:, {_AGGREGATE})* by {_KEY}(?:, {_KEY})*",
    "sort": rf"{_NAME} (?:asc|desc)",
    "limit": r"[1-9]\d{0,3}",
}
_WORDS = {"and", "or", "in", "by", "as", "asc", "desc", "count", "pct", "bin"}
_GENERATED = {"@timestamp", "@message"}


@dataclass
class Query:
    """fields: of log lines, that it reads; conditions: what it compares with what."""

    fields: set[str] = field(default_factory=set)
    conditions: set[tuple[str, str]] = field(default_factory=set)


def parse(text: str) -> Query:
    """Raises ValueError where it is no query, or sorts by what it has not got."""
    query, own = Query(), set(_GENERATED)
    for place, line in enumerate(text.strip().split("\n")):
        command, _, rest = line.removeprefix("| ").partition(" ")
        if (place > 0) != line.startswith("| ") or not re.fullmatch(_COMMANDS.get(command, "(?!)"), rest):
            raise ValueError(f"not a command: {line}")
        aliases = set(re.findall(rf" as ({_NAME})", rest))
        names = set(re.findall(rf"(?<![\w@]){_NAME}", re.sub(r'"[^"]*"|bin\(\w+\)', "", rest))) - _WORDS - aliases
        if command == "sort" and "stats" in text and not names <= own:
            raise ValueError(f"sorted by what is not there: {line}")
        if command == "filter":
            query.conditions |= set(re.findall(rf'({_NAME}) = "([^"]*)"', rest))
        query.fields |= names - own
        own |= aliases
    return query
