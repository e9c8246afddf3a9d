"""The image, built once for all tests."""

import pytest

from tests.deploy.containers import CONTAINER, run, tool


@pytest.fixture(scope="session")
def image() -> str:
    for name in ("buildah", "podman", "runc", "mmdebstrap", "slirp4netns"):
        tool(name)
    tag = "localhost/captionist:test"
    run(CONTAINER / "build.sh", tag)
    return tag
