"""Pictures from the web, without giving anybody access to our own network.

An address is checked when it is connected to, after resolution, so that neither a redirect nor a name that resolves
differently the second time (DNS rebinding) leads into that network.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2
from httpcore2 import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from captionist.errors import ImageFetchError, ImageTooLargeError

_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_ALLOCATED = ipaddress.ip_network("2000::/3")
_MOST_CONNECTIONS = 64


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet; an IPv4 address inside an IPv6 one is judged as itself."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner:
            return is_public(str(inner))
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _ALLOCATED:  # such as ::127.0.0.1, and the former site-local addresses
            return False
    return ip.is_global and not ip.is_multicast


class PublicOnlyBackend(AsyncNetworkBackend):
    """Connects to public addresses only, and to the very address that was checked."""

    def __init__(self) -> None:
        self._inner = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _refused(f"{host} cannot be resolved.") from error
        addresses = [str(entry[4][0]) for entry in found]
        # One private address among public ones is a trick, not a mistake.
        if not addresses or not all(self.allows(address) for address in addresses):
            raise _refused(f"{host} is not an address of the public internet.")
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    def allows(self, address: str) -> bool:
        """Whether to connect to an IP address."""
        return is_public(address)


class Fetcher:
    """Fetches pictures by URL, within limits of size and time."""

    def __init__(self, max_bytes: int, timeout: float, backend: AsyncNetworkBackend | None = None) -> None:
        self._max_bytes, self._timeout = max_bytes, timeout
        self._pool = httpcore2.AsyncConnectionPool(
            network_backend=backend or PublicOnlyBackend(),
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=0,
        )

    async def fetch(self, url: str, hold_more: Callable[[int], None] = lambda _: None) -> bytes:
        """The body behind a URL; hold_more is told how many bytes come, before they are kept.

        Raises ImageFetchError, ImageTooLargeError, and what hold_more raises.
        """
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(_MOST_REDIRECTS + 1):
                    target, body = await self._get(url, hold_more)
                    if target is None:
                        return body
                    url = _join(url, target)
        except TimeoutError as error:
            raise _refused(f"It took longer than {self._timeout:g} seconds.") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
            raise _refused(f"The server cannot be reached ({type(error).__name__}).") from error
        raise _refused(f"There are more than {_MOST_REDIRECTS} redirects.")

    async def _get(self, url: str, hold_more: Callable[[int], None]) -> tuple[str | None, bytes]:
        """Where a redirect leads, or None and the body."""
        if not url.isascii() or not url.isprintable():
            raise _refused("It is not a valid URL.")
        try:
            parts = urlsplit(url)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound or parts.username or parts.password:
            raise _refused("Only http and https URLs without a user name are fetched.")
        try:
            target = httpcore2.URL(parts._replace(fragment="").geturl())
        except (ValueError, UnicodeError) as error:
            raise _refused("It is not a valid URL.") from error
        headers: dict[bytes | str, bytes | str] = {
            "Host": parts.netloc,
            "Accept": "image/*",
            "User-Agent": "captionist",
            "Accept-Encoding": "identity",
        }
        async with self._pool.stream("GET", target, headers=headers) as response:
            fields = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in fields:
                return fields[b"location"].decode("latin-1"), b""
            if response.status != 200:
                raise _refused(f"The server answered {response.status}.")
            if fields.get(b"content-encoding", b"identity").lower() != b"identity":  # we did not ask for any
                raise _refused("The server sent it compressed.")
            body = bytearray()
            async for chunk in response.aiter_stream():
                if len(body) + len(chunk) > self._max_bytes:
                    raise ImageTooLargeError(f"The picture at that URL has more than {self._max_bytes:,} bytes.")
                hold_more(len(chunk))
                body += chunk
            return None, bytes(body)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._pool.aclose()


def _join(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise _refused("It redirects to something that is not a URL.") from error


def _refused(reason: str) -> ImageFetchError:
    return ImageFetchError(f"{reason} Send the picture itself instead.")


def fetch(url: str, max_bytes: int, timeout: float = 30) -> bytes:
    """The body behind a URL, for callers without an event loop; timeout: seconds. Raises as `Fetcher.fetch` does."""

    async def fetched() -> bytes:
        fetcher = Fetcher(max_bytes, timeout)
        try:
            return await fetcher.fetch(url)
        finally:
            await fetcher.aclose()

    # In its own thread, since a notebook already runs an event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, fetched()).result()
