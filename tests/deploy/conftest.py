"""The image, built once for all tests."""

import pytest

from tests.deploy.containers import built_image


@pytest.fixture(scope="session")
def image() -> str:
    return built_image()
