"""What OpenAI's and Ollama's own clients are told when they get no caption."""

import json
import re
import urllib.error
import urllib.request

import ollama
import openai
import pytest
from openai import OpenAI

from tests.server.clients import LIMITED, ROUTES, failures, messages, of_ollama, of_openai, uri
from tests.server.clients import openai_client as openai_client
from tests.server.clients import sentences as sentences
from tests.server.clients import service as service
from tests.server.conftest import KEY, Serve
from tests.server.serving import Running


@pytest.mark.parametrize(
    ("pictures", "status", "said"),
    [
        ([], 422, "has no picture"),
        ([b"hello"], 415, "picture 1"),
        (["dog", b"hello"], 415, "picture 2"),
        ([b""], 422, "picture 1"),
        ([bytes(400_001)], 413, "the limit of 400,000"),
        ([bytes(400_000)] * 5, 413, "The body has more than"),
        (["dog"] * 4, 422, "at most 3 pictures"),
    ],
)
def test_what_gets_no_caption_is_an_error_of_the_clients_own_kind(
    service: Running, dog: bytes, pictures: list[bytes | str], status: int, said: str
) -> None:
    found = failures(service.url, KEY, *(dog if isinstance(picture, str) else picture for picture in pictures))
    assert {code for code, _ in found} == {status}
    assert len({message for _, message in found}) == 1
    assert said in found[0][1]


def test_keys_and_their_rates_hold(service: Running, dog: bytes, sentences: list[str]) -> None:
    assert {status for status, _ in failures(service.url, "another-key", dog)} == {401}
    with of_openai(service.url, "another-key") as client, pytest.raises(openai.AuthenticationError) as unlisted:
        client.models.list()
    assert unlisted.value.code == "unauthorized"
    with of_ollama(service.url, "another-key") as ollamas, pytest.raises(ollama.ResponseError, match="API key"):
        ollamas.list()
    with of_openai(service.url, LIMITED) as client, of_ollama(service.url, LIMITED) as ollamas:
        completion = client.chat.completions.create(model="x", messages=messages(uri(dog)))
        assert completion.choices[0].message.content == sentences[0]
        assert ollamas.generate("x", "", images=[dog]).response == sentences[0]
    assert {status for status, _ in failures(service.url, LIMITED, dog)} == {429}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        *((route, b"{", 400, "not valid JSON") for route in (*ROUTES, "/api/show")),
        *((route, b'{"x": [' + b"[]," * 10_000 + b"1]}", 400, "10,000 parts") for route in ROUTES),
        ("/v1/chat/completions", b'{"messages": []}', 422, "messages"),
        ("/v1/chat/completions", b'{"messages": [{"role": "assistant", "content": "x"}]}', 422, "has no picture"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user"}], "n": 2}', 422, "n must be at most 1"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user"}], "response_format": {"type": "json_object"}}', 422,
         "response_format.type"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": [{"image_url": {"url": "%%%%"}}]}]}', 422,
         "messages.0.content.0.image_url.url: this is not base64"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": [{"image_url": "https://a.b/c"}]}]}', 422,
         "does not fetch URLs"),
        ("/v1/chat/nothing", b"{}", 404, "Nothing is here"),
        ("/api/chat", b"{}", 422, "messages"),
        ("/api/chat", b'{"messages": [{"role": "system", "content": "x"}]}', 422, "has no picture"),
        ("/api/generate", b'{"images": ["%%%%"]}', 422, "images.0: this is not base64"),
        ("/api/generate", b'{"images": ["https://a.b/c"]}', 422, "does not fetch URLs"),
        ("/api/generate", b'{"images": [], "format": "json"}', 422, "format: this service writes sentences"),
        ("/api/pull", b"{}", 404, "Nothing is here"),
        ("/api/tags", b"{}", 405, "POST"),
    ],
)  # fmt: skip
def test_a_wrong_body_is_told_what_is_wrong(service: Running, path: str, body: bytes, status: int, said: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "X-Request-ID": "mine"}  # and no type, as `curl -d` leaves it
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(service.url + path, body, headers))
    with caught.value as response:
        assert response.status == status
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Request-ID"] == "mine"
        error = json.load(response)["error"]
    assert said in (error if path.startswith("/api") else error["message"])


def test_the_log_and_the_metrics_tell_of_them(service: Running, openai_client: OpenAI, dog: bytes) -> None:
    openai_client.chat.completions.create(
        model="x", messages=messages(uri(dog)), extra_headers={"X-Request-ID": "told"}
    )
    line = service.line(event="request", request_id="told")
    assert (line["route"], line["status"], line["client"]) == ("/v1/chat/completions", 200, "site")
    with urllib.request.urlopen(f"{service.url}/metrics") as response:
        metrics = response.read().decode()
    for route in ROUTES:
        assert f'captionist_http_requests_total{{method="POST",route="{route}",status="504"}} 0.0' in metrics
    assert re.search(r'requests_total\{method="POST",route="/v1/chat/completions",status="200"\} [1-9]', metrics)


@pytest.mark.parametrize("path", ROUTES)
def test_a_full_house_refuses_before_it_reads(serve: Serve, path: str) -> None:
    client = serve(max_queue=1)
    with client.app.state.service.batcher.room(1):  # type: ignore[attr-defined]
        response = client.post(path, content=b"not even JSON")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "full" in str(response.json()["error"])
