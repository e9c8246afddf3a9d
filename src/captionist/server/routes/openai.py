"""The endpoints that OpenAI's clients expect: POST /v1/chat/completions and GET /v1/models.

https://platform.openai.com/docs/api-reference/chat
"""

import json
import time
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from captionist.server.compatible import Answer, Conversation, answer, made_at
from captionist.server.problems import Problem
from captionist.server.routes.models import list_models
from captionist.server.service import ClientDep, Service, ServiceDep

router = APIRouter(include_in_schema=False)


class _Address(BaseModel):
    url: str


class _Part(BaseModel):
    image_url: _Address | str | None = None


class _Message(BaseModel):
    role: str
    content: str | list[_Part] | None = None


class _ResponseFormat(BaseModel):
    type: Literal["text"]  # a client that asks for JSON could not parse a sentence


class _StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(Conversation):
    """The body of POST /v1/chat/completions."""

    messages: list[_Message] = Field(min_length=1)
    n: int | None = Field(None, ge=1, le=1)
    response_format: _ResponseFormat | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None

    def take_pictures(self) -> dict[str, str]:
        messages, self.messages = self.messages, []
        last = max((index for index, message in enumerate(messages) if message.role == "user"), default=None)
        parts = messages[last].content if last is not None else None
        found = {}
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            if part.image_url is not None:
                address = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                found[f"messages.{last}.content.{index}.image_url.url"] = address
        return found


@router.post("/v1/chat/completions")
async def create_completion(request: Request, service: ServiceDep, client: ClientDep) -> Response:  # noqa: ARG001
    """A sentence for each picture in the last message of the user, whole or as server-sent events."""
    asked, answered = await answer(request, service, ChatRequest)
    common = {"id": f"chatcmpl-{request.state.request_id}", "created": int(time.time()), "model": answered.model}
    usage = {"prompt_tokens": 0, "completion_tokens": answered.tokens, "total_tokens": answered.tokens}
    if not asked.stream:
        message = {"role": "assistant", "content": answered.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        ids = {"caption_ids": answered.caption_ids}
        return JSONResponse({**common, "object": "chat.completion", "choices": [choice], "usage": usage, **ids})
    chunks = list(_chunks(answered))
    if asked.stream_options and asked.stream_options.include_usage:
        chunks.append({"choices": [], "usage": usage})
    events = [json.dumps({**common, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    # Everything is known by now: the model chooses among whole sentences, so nothing could be shown earlier.
    body = "".join(f"data: {event}\n\n" for event in (*events, "[DONE]"))
    return Response(body, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _chunks(answered: Answer) -> Iterator[dict[str, Any]]:
    for delta in ({"role": "assistant", "content": ""}, *({"content": piece} for piece in answered.pieces)):
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "caption_ids": answered.caption_ids}


@router.get("/v1/models")
async def list_all(service: ServiceDep, client: ClientDep) -> dict[str, Any]:
    """Our own list and OpenAI's in one, as both have this path."""
    own = await list_models(service, client)
    return {**own.model_dump(), "object": "list", "data": [_model(service)]}


@router.get("/v1/models/{name}")
async def show(name: str, service: ServiceDep, client: ClientDep) -> dict[str, Any]:  # noqa: ARG001
    """One model. Raises Problem (not-found)."""
    model = _model(service)
    if name != model["id"]:
        raise Problem("not-found", f"There is no model of that name: this service has {model['id']}.")
    return model


def _model(service: Service) -> dict[str, Any]:
    name = service.captioner.bundle.config.name
    return {"id": name, "object": "model", "created": int(made_at(service)), "owned_by": "captionist"}


_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def _error(problem: Problem, _: dict[str, Any]) -> dict[str, Any]:
    usual = "server_error" if problem.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": problem.detail,
            "type": _TYPES.get(problem.status, usual),
            "param": problem.errors[0]["field"] if problem.errors else None,
            "code": problem.name,
        }
    }


def _both(problem: Problem, document: dict[str, Any]) -> dict[str, Any]:
    return {**document, **_error(problem, document)}


ERROR_FORMATS = {"/v1/chat/": _error, "/v1/models/": _error, "/v1/models": _both}
"""By the beginnings of paths; the first that fits counts."""
