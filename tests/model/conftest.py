"""Checkpoints and a finished run for the tests of the model."""

from pathlib import Path

import pytest

from tests.model.checkpoints import Checkpoints, make_checkpoints
from tests.training.runs import overfit


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return overfit(tmp_path_factory.getbasetemp() / "overfit")
