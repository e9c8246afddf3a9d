"""The endpoints that Ollama's clients expect, below /api.

https://docs.ollama.com/api
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, Field, field_validator

from captionist import __version__
from captionist.server.compatible import Answer, Conversation, answer, made_at
from captionist.server.inputs import parse_json
from captionist.server.problems import Problem
from captionist.server.service import ClientDep, Service, ServiceDep

router = APIRouter(prefix="/api", include_in_schema=False)


class _Asked(Conversation):
    stream: bool | None = None
    format: Any = None

    @field_validator("format")
    @classmethod
    def _is_text(cls, value: Any) -> None:
        if value:  # a client that asks for JSON could not parse a sentence
            raise ValueError("this service writes sentences, not JSON: leave it out")


class GenerateRequest(_Asked):
    """The body of POST /api/generate."""

    images: list[str] | None = None

    def take_pictures(self) -> dict[str, str]:
        images, self.images = self.images, None
        return {f"images.{index}": image for index, image in enumerate(images or ())}


class _Message(BaseModel):
    role: str
    images: list[str] | None = None


class ChatRequest(_Asked):
    """The body of POST /api/chat."""

    messages: list[_Message]

    def take_pictures(self) -> dict[str, str]:
        messages, self.messages = self.messages, []
        for number, message in reversed(list(enumerate(messages))):
            if message.role == "user":
                return {f"messages.{number}.images.{index}": image for index, image in enumerate(message.images or ())}
        return {}


class ShowRequest(BaseModel):
    """The body of POST /api/show."""

    model: str = Field(validation_alias=AliasChoices("model", "name"))


@router.post("/generate")
async def generate(request: Request, service: ServiceDep, client: ClientDep) -> Response:  # noqa: ARG001
    """A sentence for each of the pictures, in pieces or whole."""
    asked, answered = await answer(request, service, GenerateRequest)
    return _response(asked, answered, lambda text: {"response": text})


@router.post("/chat")
async def chat(request: Request, service: ServiceDep, client: ClientDep) -> Response:  # noqa: ARG001
    """A sentence for each picture in the last message of the user, in pieces or whole."""
    asked, answered = await answer(request, service, ChatRequest)
    return _response(asked, answered, lambda text: {"message": {"role": "assistant", "content": text}})


def _response(asked: _Asked, answered: Answer, say: Callable[[str], dict[str, Any]]) -> Response:
    common = {"model": answered.model, "created_at": _time(datetime.now(UTC))}
    end = {
        "done": True,
        "done_reason": "stop",
        "total_duration": _nanoseconds(answered.milliseconds.total),
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": _nanoseconds(answered.milliseconds.encode),
        "eval_count": answered.tokens,
        "eval_duration": _nanoseconds(answered.milliseconds.generate),
        "caption_ids": answered.caption_ids,
    }
    if asked.stream is False:
        return JSONResponse({**common, **say(answered.text), **end})
    # Everything is known by now: the model chooses among whole sentences, so nothing could be shown earlier.
    parts = [*({**say(piece), "done": False} for piece in answered.pieces), {**say(""), **end}]
    body = "".join(json.dumps({**common, **part}) + "\n" for part in parts)
    return Response(body, media_type="application/x-ndjson")


def _nanoseconds(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@router.get("/tags")
async def list_all(service: ServiceDep, client: ClientDep) -> dict[str, Any]:  # noqa: ARG001
    """The model."""
    bundle = service.captioner.bundle
    name = f"{bundle.config.name}:latest"
    return {
        "models": [
            {"name": name, "model": name, "size": bundle.size, "digest": bundle.fingerprint, **_described(service)}
        ]
    }


@router.post("/show")
async def show(request: Request, service: ServiceDep, client: ClientDep) -> dict[str, Any]:  # noqa: ARG001
    """More of the model. Raises Problem (not-found)."""
    with service.bodies.body(request) as body:
        asked = await asyncio.to_thread(parse_json, ShowRequest, await body.read())
    config = service.captioner.bundle.config
    if asked.model.removesuffix(":latest") != config.name:
        raise Problem("not-found", f"There is no model of that name: this service has {config.name}.")
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "model_info": {
            "general.architecture": "captionist",
            "general.name": config.name,
            "general.version": config.version,
        },
        "capabilities": ["completion", "vision"],
        **_described(service),
    }


def _described(service: Service) -> dict[str, Any]:
    details = {
        "parent_model": "",
        "format": "onnx",
        "family": "captionist",
        "families": ["captionist"],
        "parameter_size": "",
        "quantization_level": service.captioner.bundle.config.precision,
    }
    return {"modified_at": _time(datetime.fromtimestamp(made_at(service), UTC)), "details": details}


@router.get("/version")
async def version(client: ClientDep) -> dict[str, str]:  # noqa: ARG001
    """Captionist's own."""
    return {"version": __version__}


def _error(problem: Problem, _: dict[str, Any]) -> dict[str, Any]:
    return {"error": problem.detail}


ERROR_FORMATS = {"/api/": _error}
"""By the beginnings of paths."""
