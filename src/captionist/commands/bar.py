"""How far a command is: the last line of a terminal, in plain characters that every encoding has.

rich's own bar would stand in for the streams, and break the lines that others print at the terminal's width.
"""

import os
import time
from typing import TextIO

_WIDTH = 40  # characters between the brackets
_OFTEN = 0.1  # seconds


class Bar:
    """Drawn on `stream`, a terminal. Who writes a line there calls `clear` before and `draw` after."""

    def __init__(self, stream: TextIO, description: str, total: int) -> None:
        self._stream, self._description, self._total = stream, description, total
        self._done = 0
        self._begun = self._drawn = time.monotonic()
        self.draw()

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        if time.monotonic() - self._drawn > _OFTEN:
            self.draw()

    def draw(self) -> None:
        """Show how far it is."""
        self._drawn = time.monotonic()
        filled = _WIDTH * self._done // max(self._total, 1)
        text = f"{self._description} [{'#' * filled:{_WIDTH}}] {self._done}/{self._total}{self._left()}"
        self._stream.write(f"\r{text[: self._columns() - 1]}\x1b[K")
        self._stream.flush()

    def clear(self) -> None:
        """Leave an empty line."""
        self._stream.write("\r\x1b[K")
        self._stream.flush()

    def _left(self) -> str:
        if not self._done:
            return ""
        seconds = round((self._drawn - self._begun) / self._done * (self._total - self._done))
        return f" {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except OSError:
            return 80
