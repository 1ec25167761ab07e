"""Requests to providers that speak HTTP/1.1.

A connection carries one request at a time. Web Push goes to hosts that devices name: these are
looked up through the guard of callbacks, redirects are not followed, answers are read to a limit.
"""

import ssl
from typing import Final, Self

import aiohttp

from router.bridge import Request, Response
from router.bridging.transport import (
    ForbiddenError,
    SilentError,
    UnknownError,
    UnreachableError,
    UnsentError,
)
from router.callbacks.guard import GuardedResolver, RefusedAddressError, is_refusal, is_refused
from router.policy.foreign_text import foreign_text

MAX_BODY_BYTES: Final = 65_536
MAX_CONNECTIONS: Final = 256
"""To one origin."""
_MAX_HEADER_BYTES: Final = 8_190
_MAX_HEADERS: Final = 64
_MAX_ERROR: Final = 200
_KEEPALIVE_S: Final = 60.0
_DNS_CACHE_S: Final = 30


class Http1Client:
    """Makes the requests: `async with Http1Client(…) as client`.

    Args:
        connect_s: what a free connection may take to be made, or to be had.
        guarded: whether only public addresses may be connected to.
    """

    def __init__(self, connect_s: float, *, guarded: bool) -> None:
        self._connect_s = connect_s
        self._guarded = guarded
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver() if self._guarded else None,
            limit=0,
            limit_per_host=MAX_CONNECTIONS,
            keepalive_timeout=_KEEPALIVE_S,
            ttl_dns_cache=_DNS_CACHE_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
            headers={"User-Agent": "Pushwire"},
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Request, tls: ssl.SSLContext, timeout_s: float) -> Response:
        """Send a request and give its answer.

        Raises:
            UnsentError: the provider did not look at it; UnreachableError where there is none,
                ForbiddenError where the guard refuses its host.
            UnknownError: it may have; SilentError where the answer did not come in time.
        """
        session = self._session
        if session is None:
            raise RuntimeError("The client is used before it was opened")
        url = request.origin + request.path
        if self._guarded and is_refused(url):
            raise ForbiddenError(str(RefusedAddressError()))
        timeout = aiohttp.ClientTimeout(
            total=self._connect_s + timeout_s, connect=self._connect_s, sock_read=timeout_s
        )
        try:
            async with session.request(
                request.method,
                url,
                data=request.body,
                headers=dict(request.headers),
                allow_redirects=False,
                ssl=tls,
                timeout=timeout,
            ) as answer:
                body = await _read(answer)
                headers = {
                    name.lower(): foreign_text(value, _MAX_HEADER_BYTES)
                    for name, value in answer.headers.items()
                }
                return Response(answer.status, headers, body)
        except aiohttp.ConnectionTimeoutError:
            raise UnreachableError(f"no connection within {self._connect_s:g} s") from None
        except (TimeoutError, aiohttp.ServerTimeoutError):
            raise SilentError("no answer within the time-out") from None
        except aiohttp.ClientConnectorError as error:
            if is_refusal(error):
                raise ForbiddenError(str(RefusedAddressError())) from error
            raise UnreachableError(_shown(error)) from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise UnsentError(_shown(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnknownError(_shown(error)) from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read the body to a limit; the status counts where it does not come whole."""
    body = b""
    try:
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                answer.close()
                break
    except (TimeoutError, aiohttp.ClientError, OSError):
        answer.close()
    return body[:MAX_BODY_BYTES]


def _shown(error: Exception) -> str:
    # The text of the others of their kind holds the URL, by which anybody may push to a browser.
    told = error.message if isinstance(error, aiohttp.ClientResponseError) else error
    kind = type(error).__name__
    if isinstance(error, aiohttp.InvalidURL):
        return kind
    return foreign_text(f"{kind}: {told}", _MAX_ERROR)
