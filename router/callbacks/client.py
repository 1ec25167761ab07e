"""The HTTP client of callbacks: guarded, bounded, patient to a limit.

Before: `router.callbacks.delivery`. After: the endpoint of an app server, whom we do not trust. It
may resolve to our own network, answer with a redirect, a flood or a drip: nothing of that reaches
further than its own request.
"""

import asyncio
import functools
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from router.policy.destinations import is_public

MAX_BODY_BYTES: Final = 65_536
"""More of an answer's body is not read; the connection is closed."""
MAX_HEADER_BYTES: Final = 8_190
"""The longest line and the longest header of an answer."""
MAX_HEADERS: Final = 64
MAX_CONNECTIONS: Final = 1024
_RESOLVERS: Final = 32
"""Names that are looked up at once: a dead name server holds one for long."""
_KEEPALIVE_S: Final = 30.0
_DNS_CACHE_S: Final = 10
_MAX_ERROR: Final = 200


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What came of a request."""

    status: int = 0
    """0 without an answer."""
    retry_after: str = ""
    error: str = ""
    refused: bool = False
    """Whether the guard refused the address."""


class RefusedAddressError(OSError):
    """A host has no address that may be connected to."""

    def __init__(self) -> None:
        super().__init__("its addresses are not public (callback_allow_private is off)")


class GuardedResolver(AbstractResolver):
    """Looks names up, and gives only addresses that may be connected to.

    aiohttp connects to what it is given here and asks nobody again, so a name that resolves to
    something else a moment later gains nothing.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        look_up = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM
        )
        found = await loop.run_in_executor(self._threads, look_up)
        results = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
            if is_public(str(address[0]))
        ]
        if not results:
            raise RefusedAddressError
        return results

    @override
    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Client:
    """Makes the requests: `async with Client(…) as client`.

    Args:
        timeout_s: what a request may take, from the look-up of its host to the end of its answer.
        allow_private: whether any address may be connected to.
    """

    def __init__(self, timeout_s: float, *, allow_private: bool) -> None:
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        connector = aiohttp.TCPConnector(
            resolver=None if self._allow_private else GuardedResolver(),
            limit=MAX_CONNECTIONS,
            keepalive_timeout=_KEEPALIVE_S,
            ttl_dns_cache=_DNS_CACHE_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            headers={"User-Agent": "Pushwire", "Content-Type": "application/json"},
            skip_auto_headers=("Accept", "Accept-Encoding"),
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Make one request. What fails is told in the answer; nothing is raised."""
        session = self._session
        if session is None:
            raise RuntimeError("The client is used before it was opened")
        if not self._allow_private and _is_refused(url):
            return Answer(error=str(RefusedAddressError()), refused=True)
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = Answer(response.status, response.headers.get("Retry-After", ""))
                await _drain(response)
                return answer
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = _is_caused_by_guard(error)
            return Answer(error=_shown(error, refused=refused), refused=refused)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the body so that the connection can be used again, unless it is long or stalls."""
    size = 0
    try:
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                response.close()
                return
    except (aiohttp.ClientError, TimeoutError, OSError):
        response.close()  # the status is the answer


def _is_refused(url: str) -> bool:
    """Check a host that is an address: it is not looked up."""
    host = urlsplit(url).hostname or ""
    literal = ":" in host or host.replace(".", "").isdigit()
    return literal and not is_public(host)


def _is_caused_by_guard(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RefusedAddressError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _shown(error: Exception, *, refused: bool) -> str:
    if refused:
        return str(RefusedAddressError())
    return f"{type(error).__name__}: {error}"[:_MAX_ERROR]
