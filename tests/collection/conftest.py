"""What the tests of collections share."""

from pathlib import Path

import pytest

from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 pictures, more than one block; the last two are the same."""
    folder = tmp_path / "photos"
    for seed in range(39):
        write_png(folder / f"{seed:02}.png", seed)
    write_png(folder / "39.png", 38)
    return folder
