"""API keys, rate limits, and the headers that keep the page safe."""

import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from captionist.server.problems import Problem
from captionist.server.settings import Settings, is_loopback

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request; without keys, everybody is the same nameless client, and on loopback an administrator."""

    name: str
    admin: bool


class Gatekeeper:
    """Decides who may do what, and how often."""

    def __init__(self, settings: Settings) -> None:
        self._keys = [(bytes.fromhex(key.sha256), key) for key in settings.api_keys]
        self._rates = {key.name: parse(key.rate) for key in settings.api_keys if key.rate}
        self._anonymous_rate = parse(settings.anonymous_rate) if settings.anonymous_rate else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def admit(self, request: Request) -> Client:
        """The client of a request. Raises Problem: unauthorized, rate-limited."""
        address = request.client.host if request.client else ""
        if not self._keys:
            self._count(self._anonymous_rate, address)
            return Client("", _is_local(request))
        client = self._authenticate(request.headers.get("authorization", ""))
        request.state.client = client.name
        self._count(self._rates.get(client.name), client.name)
        return client

    def _authenticate(self, authorization: str) -> Client:
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("latin-1")).digest()
        # All are compared, so that the time does not reveal which one came close.
        matches = [known for expected, known in self._keys if hmac.compare_digest(expected, digest)]
        if scheme.lower() != "bearer" or not matches:
            raise Problem(
                "unauthorized",
                "This service needs an API key: send it as `Authorization: Bearer KEY`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return Client(matches[0].name, matches[0].admin)

    def _count(self, rate: RateLimitItem | None, who: str) -> None:
        if rate is None or self._limiter.hit(rate, who):
            return
        window = self._limiter.get_window_stats(rate, who)
        wait = window.reset_time - time.time()
        raise Problem("rate-limited", f"At most {rate} requests are allowed: wait a little.", retry_after=wait)

    def admit_administrator(self, request: Request) -> Client:
        """As `admit`. Raises Problem also for a client that is not an administrator."""
        client = self.admit(request)
        if not client.admin:
            raise Problem(
                "forbidden", "This needs an API key with admin = true; if there are no keys, it works only on loopback."
            )
        return client

    def admit_scraper(self, request: Request) -> None:
        """For /metrics: anybody on this machine (a sidecar, say), and administrators from elsewhere."""
        if not _is_local(request):
            self.admit_administrator(request)


def _is_local(request: Request) -> bool:
    """Whether a request was made on this machine, and on nobody else's behalf.

    The address alone does not show this: a proxy on this machine passes on what others ask, and a page from elsewhere
    whose name resolves to this machine (DNS rebinding) asks through its user's browser.
    """
    proxied = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
    try:
        named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:  # an invalid Host
        return False
    address = request.client.host if request.client else ""
    return is_loopback(address) and is_loopback(named) and not proxied
