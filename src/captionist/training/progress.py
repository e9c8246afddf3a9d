"""A bar with the time left on a terminal, nothing elsewhere (the log has its lines)."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter:
    """Shows the running stage on stderr."""

    def __init__(self, shown: bool) -> None:
        self._progress = Progress(
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
        self._name: str | None = None
        self._task = self._progress.add_task("", total=None, loss=float("nan"), visible=False)

    def __enter__(self) -> "Reporter":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, steps: int, done: int) -> None:
        """A stage of so many steps goes on, so many of them done."""
        if name != self._name:
            self._name = name
            self._progress.reset(self._task, description=name, total=steps, completed=done, visible=True)

    def advance(self, loss: float) -> None:
        """One more step is done."""
        self._progress.update(self._task, advance=1, loss=loss)
