"""The summary of many pictures: the last line on standard error, for people."""

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from captionist.commands.terminal import print_line

_LEFT = " (described by an earlier run; --renew replaces that)"
_KEPT = " (somebody described the picture; --overwrite replaces that)"


@dataclass(slots=True)
class Summary:
    """Counts pictures, and the seconds since it was made."""

    failed: int = 0
    skipped: int = 0
    captioned: int = 0
    sidecars: Counter[str] = field(default_factory=Counter)
    """How many were written, unchanged, left or kept."""
    _begun: float = field(default_factory=time.monotonic)

    def print(self) -> None:
        """Print the summary; for a single file only if no new caption says the rest."""
        if self.captioned + self.failed + self.skipped > 1 or self.sidecars["left"] or self.sidecars["kept"]:
            print_line(sys.stderr, self.line(time.monotonic() - self._begun))

    def line(self, seconds: float) -> str:
        """Such as "98 captioned, 2 failed in 5.2 s, 18.8/s; 3 other files skipped"."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        rate = f", {self.captioned / seconds:.1f}/s" if self.captioned and seconds else ""
        parts = [f"{self.captioned:,} captioned{failed} in {seconds:.1f} s{rate}"]
        if self.sidecars:
            told = {"written": "", "unchanged": "", "left": _LEFT, "kept": _KEPT}
            done = [f"{self.sidecars[what]:,} {what}{why}" for what, why in told.items() if self.sidecars[what]]
            parts.append("sidecars: " + ", ".join(done))
        if self.skipped:
            parts.append(f"{count(self.skipped, 'other file')} skipped")
        return "; ".join(parts)


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural if needed."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
