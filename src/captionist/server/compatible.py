"""What the routes for other services' clients share: a conversation in, a sentence for each of its pictures out."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel

from captionist.bundle import CHECKSUMS
from captionist.server.inputs import load_pictures, parse, parse_json
from captionist.server.problems import Problem
from captionist.server.routes.captions import describe
from captionist.server.schemas import CaptionOptions, Milliseconds, PictureInput
from captionist.server.service import Service

_NO_PICTURE = "The user's last message has no picture: this service describes pictures, and does nothing else."
_Asked = TypeVar("_Asked", bound="Conversation")


class Conversation(BaseModel):
    """What a client asks. Anything that is not a field is ignored, such as temperatures and the model's name."""

    @abstractmethod
    def take_pictures(self) -> Mapping[str, str]:
        """The pictures by the names of their fields: each is base64, a data: URI or an address. Kept no longer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said about the pictures, in their order."""

    model: str
    text: str
    """One sentence per line."""
    tokens: int
    caption_ids: list[str | None]
    milliseconds: Milliseconds

    @property
    def pieces(self) -> list[str]:
        """The text in lines, with their line ends."""
        return self.text.splitlines(keepends=True)


async def answer(request: Request, service: Service, kind: type[_Asked]) -> tuple[_Asked, Answer]:
    """What the body asks, and the answer. Raises Problem, even if only one of several pictures cannot be described: a
    missing line would put the others in the wrong places.
    """
    begun = time.monotonic()
    with service.bodies.body(request) as body:
        asked = await asyncio.to_thread(parse_json, kind, await body.read())
        entries = {field: _entry(text) for field, text in asked.take_pictures().items()}
        if not entries:
            raise Problem("invalid-request", _NO_PICTURE)
        pictures = await load_pictures(entries, body, service.settings)
        del entries  # the pictures' base64
        described = await describe(request, service, pictures, CaptionOptions(), begun, all_or_none=True)
    sentences = [picture.captions[0].text for picture in described.pictures]
    return asked, Answer(
        model=described.model.name,
        text="\n".join(sentences),
        tokens=sum(len(service.captioner.tokenizer.encode(sentence)) for sentence in sentences),
        caption_ids=[picture.id for picture in described.pictures],
        milliseconds=described.milliseconds,
    )


def made_at(service: Service) -> float:
    """When the model's files were written, in seconds since 1970."""
    return (service.captioner.bundle.path / CHECKSUMS).stat().st_mtime


def _entry(text: str) -> PictureInput:
    is_address = "://" in text[:10] and text[:5].lower() != "data:"
    return parse(PictureInput, {"url" if is_address else "data": text})
