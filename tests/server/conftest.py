"""A service with the embedded model, in this process."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient

from captionist.server.app import create_app
from captionist.server.service import Service
from captionist.server.settings import ApiKey, Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
URL = "http://127.0.0.1"
KEY, ADMIN_KEY = "a-clients-key", "an-administrators-key"
KEYS = (
    ApiKey(name="site", sha256=hashlib.sha256(KEY.encode()).hexdigest()),
    ApiKey(name="operator", sha256=hashlib.sha256(ADMIN_KEY.encode()).hexdigest(), admin=True),
)
Serve = Callable[..., TestClient]

# Log lines are tested on a real process; here they would only be in the way.
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture(scope="session")
def dog() -> bytes:
    """A photograph."""
    return (EXAMPLES / "dog.jpg").read_bytes()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts services with other settings; gives a client of each, on loopback."""
    clients: list[TestClient] = []

    def start(client: tuple[str, int] = ("127.0.0.1", 50000), **settings: Any) -> TestClient:
        app = create_app(Service.start(Settings(**{"data_dir": tmp_path, "deadline": 60, **settings})))
        clients.append(TestClient(app, URL, raise_server_exceptions=False, client=client))
        clients[-1].__enter__()
        return clients[-1]

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service with the settings that it has by default, which a module's tests share."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), deadline=60)  # for slow machines
    with TestClient(
        create_app(Service.start(settings)), URL, raise_server_exceptions=False, client=("127.0.0.1", 50000)
    ) as started:
        yield started


def problem(response: Any, status: int, name: str) -> dict[str, Any]:
    """The problem document of a response, which must be of this kind."""
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"urn:captionist:problem:{name}"), document
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert document["instance"] == response.headers["x-request-id"]
    return document


def caption_id(client: TestClient, picture: bytes, **headers: str) -> str:
    """The id of a caption that the service writes for a picture."""
    response = client.post("/v1/captions", content=picture, headers={"Content-Type": "image/jpeg", **headers})
    assert response.status_code == 200, response.text
    found: str = response.json()["pictures"][0]["id"]
    return found
