"""The HTTP client of callbacks: guarded, bounded, patient to a limit.

Before: `router.callbacks.delivery`. After: the endpoint of an app server, whom we do not trust. It
may resolve to our own network, answer with a redirect, a flood or a drip: nothing of that reaches
further than its own request.
"""

from collections.abc import Mapping
from typing import Final, Self

import aiohttp
import msgspec

from router.callbacks.guard import GuardedResolver, RefusedAddressError, is_refusal, is_refused
from router.policy.foreign_text import foreign_text

MAX_BODY_BYTES: Final = 65_536
"""More of an answer's body is not read; the connection is closed."""
MAX_HEADER_BYTES: Final = 8_190
"""The longest line and the longest header of an answer."""
MAX_HEADERS: Final = 64
MAX_CONNECTIONS: Final = 1024
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
        if not self._allow_private and is_refused(url):
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
            refused = is_refusal(error)
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


def _shown(error: Exception, *, refused: bool) -> str:
    if refused:
        return str(RefusedAddressError())
    return foreign_text(f"{type(error).__name__}: {error}", _MAX_ERROR)
