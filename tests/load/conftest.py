"""Real services under load and faults; run by `make test-load`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness.pictures import EXAMPLES
from harness.postgres import Postgres, binaries
from harness.processes import Service
from harness.requests import caption_request

Start = Callable[..., Service]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `captionist serve` with these settings; it is killed in the end, whatever happened."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Service:
            return stack.enter_context(Service(log_format="json", **settings))

        yield start


@pytest.fixture(scope="session")
def caption() -> bytes:
    """A request for the caption of a photograph."""
    return caption_request((EXAMPLES / "dog.jpg").read_bytes())


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    with Postgres() as running:
        yield running
