"""Asks ECS not to stop this task while it has work: scale-in protection, through ECS's agent.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

import asyncio
import json
import math
import os
import time

import httpcore2
import structlog

from captionist.errors import SettingsError
from captionist.server.batching import Batcher
from captionist.server.observers import Observer

_log = structlog.get_logger()
VARIABLE = "ECS_AGENT_URI"
_POLL = 1.0  # seconds between looks at the work there is
_IDLE = 15.0  # seconds without work before protection is given up
_MINUTES = 5  # that protection lasts: if it cannot be given up, the task stays this long
_RETRY = 10.0  # seconds to leave the agent alone after a failure
_PATIENCE = 5.0  # seconds for an answer: the agent itself waits four for ECS
_MOST_BYTES = 65536  # per answer


def agent_uri() -> str:
    """Where ECS's agent listens. Raises SettingsError outside ECS."""
    uri = os.environ.get(VARIABLE, "")
    if not uri.startswith("http://"):
        raise SettingsError(
            f"CAPTIONIST_SCALE_IN_PROTECTION needs {VARIABLE}, which ECS sets in its tasks: unset it elsewhere"
        )
    return uri.rstrip("/")


class ScaleInProtection(Observer):
    """Protects the task while it has pictures admitted, and for a while after."""

    def __init__(self, batcher: Batcher, agent: str) -> None:
        self._batcher, self._url = batcher, f"{agent}/task-protection/v1/state"
        self._work = 0.0
        self._worked, self._rest, self._expires = -math.inf, -math.inf, -math.inf
        self._failing = False

    async def run(self) -> None:
        """Protect the task as needed until cancelled, and then give protection up."""
        try:
            while True:
                await self._look(time.monotonic())
                await asyncio.sleep(_POLL)
        finally:
            if self._expires > time.monotonic():
                await self._tell(False)

    async def _look(self, now: float) -> None:
        _, work = self._batcher.areas()
        if work > self._work:  # also if it came and went since the last look
            self._work, self._worked = work, now
        if now < self._rest:
            return
        if now - self._worked < _IDLE:
            if self._expires - now < 60 * _MINUTES / 2:
                await self._tell(True)
        elif self._expires > now:
            await self._tell(False)

    async def _tell(self, protect: bool) -> None:
        fault = None
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._put(protect)
        except TimeoutError:
            fault = f"no answer within {_PATIENCE:g} seconds"
            if protect:  # ECS may have heard it all the same, and must then be told when the work is over
                self._expires = time.monotonic() + 60 * _MINUTES / 2
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError, ValueError) as error:
            fault = f"{type(error).__name__} {error}".strip()
        now = time.monotonic()
        if fault is None:
            if protect != (self._expires > now):
                _log.info("scale-in protection", protected=protect)
            self._expires = now + 60 * _MINUTES if protect else -math.inf
        else:
            self._rest = now + _RETRY
            if not self._failing:
                _log.warning("scale-in protection fails", wanted=protect, fault=fault)
        self._failing = fault is not None

    async def _put(self, protect: bool) -> None:
        """Raises ValueError if the agent refuses."""
        asked: dict[str, object] = {"ProtectionEnabled": protect}
        if protect:
            asked["ExpiresInMinutes"] = _MINUTES
        async with httpcore2.AsyncConnectionPool() as pool:
            content, kind = json.dumps(asked).encode(), [("Content-Type", "application/json")]
            async with pool.stream("PUT", self._url, headers=kind, content=content) as answer:
                body = b""
                async for chunk in answer.aiter_stream():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise ValueError(f"{answer.status} with an answer that does not end")
        # A refusal by ECS itself is a failure inside an answer with 200.
        if answer.status != 200 or b'"protection"' not in body:
            raise ValueError(f"{answer.status} {body[:500].decode('utf-8', 'replace')}")
