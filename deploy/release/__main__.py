"""Whether this commit can be released: `make release`. Needs no network and changes nothing.

`python -m deploy.release notes VERSION` prints what CHANGELOG.md says of a version.
"""

import sys
from pathlib import Path

from captionist.errors import CaptionistError
from deploy.release.checks import CHECKS
from deploy.release.errors import ReleaseError
from deploy.release.repository import notes

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> int:
    match arguments:
        case []:
            return check()
        case ["notes", version]:
            try:
                sys.stdout.write(notes(ROOT, version) + "\n")
            except ReleaseError as error:
                sys.stderr.write(f"{error}\n")
                return 1
            return 0
    sys.stderr.write("usage: python -m deploy.release [notes VERSION]\n")
    return 2


def check() -> int:
    """Run every check, also after one has failed; a line each. Returns the exit code."""
    failed = 0
    for name, run in CHECKS.items():
        try:
            line = f"ok    {name}: {run(ROOT)}"
        except (ReleaseError, CaptionistError) as error:
            failed += 1
            line = f"FAIL  {name}: {error}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
