"""A bar with the time left on a terminal, nothing elsewhere (where the log has its lines)."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StageBar(Progress):
    """Shows the running stage on stderr."""

    def __init__(self, shown: bool) -> None:
        super().__init__(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True, soft_wrap=True),
            disable=not (shown and sys.stderr.isatty()),
        )
        self._stage = self.add_task("", total=None, loss=float("nan"), visible=False)

    def begin(self, name: str, steps: int, done: int) -> None:
        """A stage of this many steps begins, or continues after `done` of them."""
        self.reset(self._stage, description=name, total=steps, completed=done, visible=True)

    def step(self, loss: float) -> None:
        """One more step is done."""
        self.update(self._stage, advance=1, loss=loss)
