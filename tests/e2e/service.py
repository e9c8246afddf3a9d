"""The real service, and what it has stored."""

import json
from pathlib import Path
from typing import Any

from harness import processes


class Service(processes.Service):
    """A running `captionist serve` with its data in a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        # The model runs on a machine that is busy with other things.
        super().__init__(data_dir=folder / "data", deadline=180, **settings)

    def feedback(self) -> list[dict[str, Any]]:
        """Everything stored, oldest first. On loopback and without keys, everybody is an administrator."""
        status, body = self.get("/v1/feedback/export")
        assert status == 200
        return [json.loads(line) for line in body.splitlines()]
