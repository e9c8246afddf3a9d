"""CHANGELOG.md, in the format of Keep a Changelog 1.1.0."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from deploy.release.errors import ReleaseError

KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
_RELEASE = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)(?: \[YANKED\])?")
_LINK = re.compile(r"^\[[^\]]+\]: .*\n?", re.MULTILINE)  # where the link of a heading leads, at the file's end


@dataclass(frozen=True)
class Section:
    """One version's changes; `[Unreleased]` has neither version nor day."""

    version: str | None
    day: date | None
    text: str


def sections(text: str) -> list[Section]:
    """Every section, newest first. Raises ReleaseError where the format is broken."""
    intro, *parts = re.split(r"^## (.+)\n", _LINK.sub("", text), flags=re.MULTILINE)
    if not intro.startswith("# Changelog\n"):
        raise ReleaseError("CHANGELOG.md does not begin with `# Changelog`")
    found = [_section(heading, body) for heading, body in zip(parts[::2], parts[1::2], strict=True)]
    if any(section.version is None for section in found[1:]):
        raise ReleaseError("CHANGELOG.md: [Unreleased] must stand once, above all versions")
    dated = [(_numbers(section.version), section.day) for section in found if section.version and section.day]
    for (version, day), (older, earlier) in pairwise(dated):
        if older >= version or earlier > day:
            raise ReleaseError("CHANGELOG.md: the newest version comes first; sort the sections by version and date")
    return found


def notes(text: str, version: str) -> str:
    """What changed in a version, as Markdown. Raises ReleaseError if it has no section."""
    for section in sections(text):
        if section.version == version:
            return section.text
    raise ReleaseError(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`")


def _section(heading: str, body: str) -> Section:
    before, *parts = re.split(r"^### (.+)\n", body, flags=re.MULTILINE)
    kinds = parts[::2]
    if before.strip() or not set(kinds) <= set(KINDS) or len(set(kinds)) < len(kinds):
        raise ReleaseError(f"CHANGELOG.md: {heading} lists its changes under {', '.join(KINDS)}, each once at most")
    for kind, changes in zip(kinds, parts[1::2], strict=True):
        if not changes.lstrip().startswith("- "):
            raise ReleaseError(f"CHANGELOG.md: {heading}, {kind} holds no list; write it or drop the heading")
    if heading == "[Unreleased]":
        return Section(None, None, body.strip())
    match = _RELEASE.fullmatch(heading)
    if not match:
        raise ReleaseError(f"CHANGELOG.md: `## {heading}` is neither [Unreleased] nor `[X.Y.Z] - YYYY-MM-DD`")
    if not kinds:
        raise ReleaseError(f"CHANGELOG.md: {heading} lists no changes")
    return Section(match[1], _day(match[2]), body.strip())


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise ReleaseError(f"CHANGELOG.md: {text} is no date") from error
    if day > datetime.now(UTC).date() + timedelta(days=1):  # it may be tomorrow already, east of Greenwich
        raise ReleaseError(f"CHANGELOG.md: {text} is still to come")
    return day


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
