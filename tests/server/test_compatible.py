"""OpenAI's and Ollama's own clients, and a program that uses both, at a running service."""

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from openai import OpenAI

from captionist.fetch import Fetcher, PublicOnlyBackend
from tests.server.clients import DOG, RIVER, ROUTES, messages, uri
from tests.server.clients import ollama_client as ollama_client
from tests.server.clients import openai_client as openai_client
from tests.server.clients import sentences as sentences
from tests.server.clients import service as service
from tests.server.conftest import EXAMPLES, KEY, Serve
from tests.server.serving import PATIENCE, Running

ROOT = EXAMPLES.parent


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
    client.app.state.service.bodies.fetcher = Fetcher(1_000_000, PATIENCE, _ThisMachine())  # type: ignore[attr-defined]
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
