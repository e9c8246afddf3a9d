"""OpenAI's and Ollama's own clients, and a program that uses both, at a running service."""

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
import uvicorn
from openai import OpenAI
from openai.types.chat import (
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionMessageParam,
)

from captionist import Captioner
from captionist.fetch import Fetcher, PublicOnlyBackend
from captionist.server.app import create_app
from captionist.server.service import Service
from captionist.server.settings import Settings
from tests.server.conftest import EXAMPLES, KEY, KEYS, Serve
from tests.server.serving import PATIENCE, Running, running
from tests.tools import wait_until

ROOT = EXAMPLES.parent
DOG, RIVER = EXAMPLES / "dog.jpg", EXAMPLES / "river.jpg"
LIMITED = "a-key-for-two-requests-an-hour"
LIMITED_KEY = {"name": "limited", "sha256": hashlib.sha256(LIMITED.encode()).hexdigest(), "rate": "2/hour"}
ROUTES = ("/v1/chat/completions", "/api/generate", "/api/chat")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = json.dumps([*(key.model_dump() for key in KEYS), LIMITED_KEY])
    folder = tmp_path_factory.mktemp("service")
    with running(
        folder, api_keys=keys, max_picture_bytes="400000", max_pictures="3", deadline=str(PATIENCE)
    ) as started:
        yield started


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """What the library says about the dog and the river."""
    captioner = Captioner()
    return [captioner.caption(picture).text for picture in (DOG, RIVER)]


def of_openai(url: str, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def of_ollama(url: str, key: str = KEY) -> ollama.Client:
    return ollama.Client(url, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def openai_client(service: Running) -> Iterator[OpenAI]:
    with of_openai(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def ollama_client(service: Running) -> Iterator[ollama.Client]:
    with of_ollama(service.url) as client:
        yield client


def uri(picture: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def messages(*pictures: str) -> list[ChatCompletionMessageParam]:
    """A conversation whose last message has pictures by these addresses, and an earlier one a picture that is none."""
    text: ChatCompletionContentPartTextParam = {"type": "text", "text": "What is this?"}
    return [
        {"role": "system", "content": "You describe photographs."},
        {"role": "user", "content": [_picture("data:image/png;base64,AAAA")]},
        {"role": "assistant", "content": "Nothing."},
        {"role": "user", "content": [text, *map(_picture, pictures)]},
    ]


def _picture(address: str) -> ChatCompletionContentPartImageParam:
    return {"type": "image_url", "image_url": {"url": address}}


def test_openais_client_gets_a_caption(service: Running, openai_client: OpenAI, sentences: list[str]) -> None:
    """Whole and in pieces, with the id that feedback needs."""
    completions = openai_client.chat.completions
    asked: dict[str, Any] = {"model": "gpt-4o", "messages": messages(uri(DOG.read_bytes())), "temperature": 0.5}
    whole = completions.create(**asked, max_tokens=300)
    assert whole.choices[0].message.content == sentences[0]
    assert whole.choices[0].finish_reason == "stop"
    assert whole.model == "captionist-small"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == whole.usage.total_tokens > 3

    chunks = list(completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == sentences[0]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    with completions.stream(**asked) as stream:
        assert stream.get_final_completion().choices[0].message.content == sentences[0]

    for ids in (whole.caption_ids, chunks[-2].caption_ids):
        body = json.dumps({"caption_id": ids[0], "rating": "good"}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        with urllib.request.urlopen(urllib.request.Request(f"{service.url}/v1/feedback", body, headers)) as response:
            assert response.status == 201


def test_ollamas_client_gets_a_caption(ollama_client: ollama.Client, sentences: list[str]) -> None:
    """From a path, bytes and base64; whole and in pieces."""
    client = ollama_client
    generated = client.generate("llava", "What is this?", images=[str(DOG)], options={"temperature": 0})
    assert (generated.response, generated.done, generated.done_reason) == (sentences[0], True, "stop")
    assert (generated.total_duration or 0) > (generated.eval_duration or 0) > 0
    assert (generated.eval_count or 0) > 3
    parts = list(client.generate("llava", "", images=[DOG.read_bytes()], stream=True))
    assert [part.done for part in parts] == [False, True]
    assert "".join(part.response or "" for part in parts) == sentences[0]

    chat: list[dict[str, Any]] = [
        {"role": "user", "content": "And this?", "images": ["AAAA"]},
        {"role": "assistant", "content": "Nothing."},
        {"role": "user", "content": "What is this?", "images": [base64.b64encode(DOG.read_bytes()).decode()]},
    ]
    assert client.chat("llava", chat).message.content == sentences[0]
    assert "".join(part.message.content or "" for part in client.chat("llava", chat, stream=True)) == sentences[0]


def test_several_pictures_have_a_line_each(
    openai_client: OpenAI, ollama_client: ollama.Client, sentences: list[str]
) -> None:
    pictures = [DOG.read_bytes(), RIVER.read_bytes()]
    completions, lines = openai_client.chat.completions, "\n".join(sentences)
    asked = messages(*map(uri, pictures))
    assert completions.create(model="x", messages=asked).choices[0].message.content == lines
    chunks = completions.create(model="x", messages=asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == lines

    client = ollama_client
    assert client.generate("x", "", images=pictures).response == lines
    chat = [ollama.Message(role="user", images=[ollama.Image(value=picture) for picture in pictures])]
    assert client.chat("x", chat).message.content == lines
    assert [part.message.content for part in client.chat("x", chat, stream=True)] == [
        f"{sentences[0]}\n",
        sentences[1],
        "",
    ]


def test_models_are_listed_as_each_client_expects(openai_client: OpenAI, ollama_client: ollama.Client) -> None:
    models = openai_client.models
    assert [model.id for model in models.list()] == ["captionist-small"]
    assert models.retrieve("captionist-small").owned_by == "captionist"
    with pytest.raises(openai.NotFoundError, match="captionist-small"):
        models.retrieve("gpt-4o")

    client = ollama_client
    (listed,) = client.list().models
    assert listed.model == "captionist-small:latest"
    assert len(listed.digest or "") == 64
    assert (listed.size or 0) > 1_000_000
    for name in ("captionist-small", listed.model):
        shown = client.show(name)
        assert shown.capabilities == ["completion", "vision"]
        assert shown.modified_at == listed.modified_at
    with pytest.raises(ollama.ResponseError, match="captionist-small") as caught:
        client.show("llava")
    assert caught.value.status_code == 404


def test_our_own_list_of_models_is_as_before(service: Running) -> None:
    request = urllib.request.Request(f"{service.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request) as response:
        listed = json.load(response)
    assert listed["models"][0]["name"] == "captionist-small"
    assert listed["limits"]["max_pictures"] == 3


def failures(url: str, key: str, *pictures: bytes) -> list[tuple[int, str]]:
    """The status and the message by which each client tells that it got no caption."""
    with of_openai(url, key) as client, pytest.raises(openai.APIStatusError) as completion:
        client.chat.completions.create(model="x", messages=messages(*map(uri, pictures)))
    error = completion.value.response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (completion.value.code, completion.value.type) == (error["code"], error["type"])
    found = [(completion.value.status_code, error["message"])]
    chat = ollama.Message(role="user", images=[ollama.Image(value=picture) for picture in pictures])
    with of_ollama(url, key) as ollamas:
        for stream in (False, True):
            for ask in (
                partial(ollamas.generate, "x", "", images=pictures, stream=stream),
                partial(ollamas.chat, "x", [chat], stream=stream),
            ):
                with pytest.raises(ollama.ResponseError) as refused:
                    list(ask())
                found.append((refused.value.status_code, refused.value.error))
    return found


@pytest.mark.parametrize(
    ("pictures", "status", "said"),
    [
        ([], 422, "No picture came with"),
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
        ("/v1/chat/completions", b'{"messages": [{"role": "assistant", "content": "x"}]}', 422, "No picture"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user"}], "n": 2}', 422, "n must be at most 1"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user"}], "response_format": {"type": "json_object"}}', 422,
         "response_format.type"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": [{"image_url": {"url": "%%%%"}}]}]}', 422,
         "messages.0.content.0.image_url.url: this is not base64"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": [{"image_url": "https://a.b/c"}]}]}', 422,
         "fetches no URLs"),
        ("/v1/chat/nothing", b"{}", 404, "Nothing is here"),
        ("/api/chat", b"{}", 422, "messages"),
        ("/api/chat", b'{"messages": [{"role": "system", "content": "x"}]}', 422, "No picture"),
        ("/api/generate", b'{"images": ["%%%%"]}', 422, "images.0: this is not base64"),
        ("/api/generate", b'{"images": ["https://a.b/c"]}', 422, "fetches no URLs"),
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


def test_a_full_house_is_told_and_passes(tmp_path: Path, dog: bytes, sentences: list[str]) -> None:
    """In this process, where the one place can be held for as long as the clients ask."""
    service = Service.start(Settings(data_dir=tmp_path, max_queue=1, deadline=PATIENCE))
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, ws="none", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        url = "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
        with service.batcher.room(1):
            found = failures(url, KEY, dog)
        assert {status for status, _ in found} == {503}
        assert "full" in found[0][1]
        with of_ollama(url) as client:
            assert client.generate("x", "", images=[dog]).response == sentences[0]
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("path", ROUTES)
def test_a_full_house_refuses_before_it_reads(serve: Serve, path: str) -> None:
    client = serve(max_queue=1)
    with client.app.state.service.batcher.room(1):  # type: ignore[attr-defined]
        response = client.post(path, content=b"not even JSON")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "full" in str(response.json()["error"])


def test_an_engine_that_fails_is_told_in_the_clients_words(
    serve: Serve, dog: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Captioner, "encode", lambda *_: 1 / 0)
    response = serve().post("/api/generate", json={"images": [base64.b64encode(dog).decode()]})
    assert response.status_code == 500
    assert "logged under this request's id" in response.json()["error"]


def test_urls_are_fetched_where_the_operator_allows_it_and_never_from_inside(serve: Serve) -> None:
    client = serve(fetch_urls=True)
    asked = {"messages": messages("http://127.0.0.1:1/dog.jpg")}
    assert "not an address of the public internet" in client.post(ROUTES[0], json=asked).json()["error"]["message"]
    answer = client.post("/api/generate", json={"images": ["http://127.0.0.1:1/dog.jpg"]})
    assert "not an address of the public internet" in answer.json()["error"]
    long = client.post("/api/generate", json={"images": ["http://example.org/" + "a" * 2048]})
    assert (long.status_code, "2048" in long.json()["error"]) == (422, True)


class _ThisMachine(PublicOnlyBackend):
    """Takes this machine for the internet."""

    def allows(self, address: str) -> bool:
        return address == "127.0.0.1"


def test_a_url_that_may_be_fetched_is_a_picture_like_others(serve: Serve, sentences: list[str]) -> None:
    client = serve(fetch_urls=True)
    client.app.state.service.fetcher = Fetcher(1_000_000, PATIENCE, _ThisMachine())  # type: ignore[attr-defined]
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=EXAMPLES)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/dog.jpg"
        completion = client.post(ROUTES[0], json={"messages": messages(address)}).json()
        generated = client.post("/api/generate", json={"images": [address], "stream": False}).json()
        server.shutdown()
    assert completion["choices"][0]["message"]["content"] == generated["response"] == sentences[0]


def test_one_setting_switches_all_of_it_off(serve: Serve) -> None:
    client = serve(compatible_apis=False)
    for method, path in (*(("POST", route) for route in (*ROUTES, "/api/show")), ("GET", "/api/tags"),
                         ("GET", "/api/version"), ("GET", "/v1/models/captionist-small")):  # fmt: skip
        response = client.request(method, path)
        assert (response.status_code, response.json()["type"]) == (404, "urn:captionist:problem:not-found")
    assert "data" not in client.get("/v1/models").json()


LLM_MODEL = """
- model_id: ours
  model_name: captionist-small
  api_base: {url}/v1
  api_key_name: ours
  vision: true
"""


@pytest.mark.parametrize("arguments", [("-m", "ours", "--key", KEY), ("-m", "ollama/captionist-small")])
@pytest.mark.parametrize("options", [(), ("--no-stream",)])
def test_a_program_that_speaks_to_such_servers_describes_a_picture(
    service: Running, sentences: list[str], tmp_path: Path, arguments: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Simon Willison's llm, and its plugin for Ollama."""
    (tmp_path / "extra-openai-models.yaml").write_text(LLM_MODEL.format(url=service.url), encoding="utf-8")
    places = {"LLM_USER_PATH": str(tmp_path), "OLLAMA_HOST": service.url, "OLLAMA_API_KEY": KEY}
    done = subprocess.run(
        [sys.executable, "-m", "llm", *arguments, *options, "Describe it.", "-a", str(DOG)],
        env={**os.environ, **places},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{sentences[0]}\n", "")


def test_the_documents_examples_run(service: Running, sentences: list[str]) -> None:
    document = (ROOT / "docs" / "compatible-apis.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        here = block.replace("http://127.0.0.1:8000", service.url).replace("photo.jpg", str(DOG)).replace("KEY", KEY)
        done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=True)
        assert done.stdout == f"{sentences[0]}\n"
