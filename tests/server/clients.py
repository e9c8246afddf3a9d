"""OpenAI's and Ollama's own clients, and a service that they ask."""

import base64
import hashlib
import json
from collections.abc import Iterator
from functools import partial

import ollama
import openai
import pytest
from openai import OpenAI
from openai.types.chat import (
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionMessageParam,
)

from captionist import Captioner
from tests.server.conftest import EXAMPLES, KEY, KEYS
from tests.server.serving import PATIENCE, Running

DOG, RIVER = EXAMPLES / "dog.jpg", EXAMPLES / "river.jpg"
LIMITED = "a-key-for-two-requests-an-hour"
LIMITED_KEY = {"name": "limited", "sha256": hashlib.sha256(LIMITED.encode()).hexdigest(), "rate": "2/hour"}
ROUTES = ("/v1/chat/completions", "/api/generate", "/api/chat")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = json.dumps([*(key.model_dump() for key in KEYS), LIMITED_KEY])
    folder = tmp_path_factory.mktemp("service")
    with Running(
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
