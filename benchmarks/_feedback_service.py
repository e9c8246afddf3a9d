"""`captionist serve` without its engine, which starts in a tenth of the time: for what a thousand kills do to feedback.

A process that has imported everything forks one that serves, and another one whenever that has been killed. Its process
id is in the file that the first argument names. Settings come from the environment, as those of `captionist serve` do.
"""

import os
import sys
from pathlib import Path
from typing import Any

from captionist.bundle import Bundle
from captionist.server import run, service
from captionist.server.settings import load_settings


class _WithoutEngine:
    """Stands where the Captioner does, and describes nothing."""

    bundle = Bundle.open()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def caption(self, _: bytes) -> None:
        """What the service warms up with."""


def main() -> None:
    pid_file = Path(sys.argv[1])
    service.Captioner = _WithoutEngine  # type: ignore[assignment, attr-defined]
    while True:
        pid = os.fork()
        if not pid:
            run.serve(load_settings())
            return
        pid_file.write_text(str(pid), encoding="ascii")
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
