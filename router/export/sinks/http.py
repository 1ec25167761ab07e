"""An object store or a collector behind HTTP: `https://…`.

With PUT, files are kept as they are under `<url>/<name>`; with POST they are handed to the one URL
of a collector. It is the operator who says where they go, so private addresses are allowed.
"""

import io
from collections.abc import Callable, Mapping
from typing import Final, Self
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp

from router.export.sink import Destination, File, SinkError
from router.policy.callbacks import explain, retry_after_ms

SCHEMES: Final = ("http", "https")

NAME_HEADER: Final = "Pushwire-Export-Name"
_TIMEOUT_S: Final = 60.0
_CONNECT_S: Final = 10.0
_MAX_RETRY_AFTER_S: Final = 3600.0
_MAX_FIELD: Final = 8_190
_MAX_REASON: Final = 200
_MAX_URL_CHARS: Final = 2048
_OK: Final = range(200, 300)
_ARCHIVES: Final = {"gzip": "application/gzip", "zstd": "application/zstd"}


def violation(url: str) -> str:
    """Say what is accepted where this URL is not; empty where it is."""
    accepted = "an http or https URL with a host, without user and fragment"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return accepted
    plain = len(url) <= _MAX_URL_CHARS and url.isascii() and url.isprintable() and " " not in url
    if not plain or not host or port == 0 or "@" in parts.netloc or "#" in url:
        return accepted
    return ""


def make(destination: Destination, now_ms: Callable[[], int]) -> "HttpSink":
    """Make a sink of a URL without a violation."""
    return HttpSink(destination, now_ms)


class HttpSink:
    """Makes one request a file; aiohttp repeats a PUT once, where its connection is lost.

    Args:
        destination: where, how, and with which headers.
        now_ms: the clock, epoch milliseconds.
        timeout_s: what a request may take.
    """

    def __init__(
        self, destination: Destination, now_ms: Callable[[], int], timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._destination = destination
        self._now_ms = now_ms
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, _CONNECT_S))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open it; nothing is asked of the destination yet."""
        # A connection for each request: they are minutes apart, and peers close what idles.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            max_line_size=_MAX_FIELD,
            max_field_size=_MAX_FIELD,
            skip_auto_headers=("Accept", "Accept-Encoding"),
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    async def put(self, file: File) -> None:
        """Make the request; any 2xx says that the file is kept. Redirects are not followed.

        Raises:
            SinkError: another answer, or none in time.
        """
        session = self._session
        if session is None:
            raise RuntimeError("The sink is used before it was opened")
        method = self._destination.method
        url = self._url_of(file) if method == "PUT" else self._destination.url
        try:
            async with session.request(
                method,
                url,
                data=io.BytesIO(file.data),
                headers=self._headers_of(file),
                allow_redirects=False,
            ) as response:
                status, asked = response.status, response.headers.get("Retry-After", "")
        except TimeoutError:
            raise SinkError(f"no answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SinkError(_shown(error)) from None  # its text may name the URL
        if status not in _OK:
            asked_s = retry_after_ms(asked, self._now_ms()) / 1000 if asked else 0.0
            raise SinkError(explain(status), min(asked_s, _MAX_RETRY_AFTER_S))

    def _url_of(self, file: File) -> str:
        """Give the URL of one file: its name at the end of the path, the query as it is."""
        parts = urlsplit(self._destination.url)
        path = f"{parts.path.rstrip('/')}/{quote(file.name, safe='/=')}"
        return urlunsplit(parts._replace(path=path))

    def _headers_of(self, file: File) -> Mapping[str, str]:
        headers = {"User-Agent": "Pushwire", NAME_HEADER: file.name, "Content-Type": file.media}
        if file.coding and self._destination.method == "PUT":
            # Kept as it is. A Content-Encoding would make clients of the object store unpack a
            # file whose name says that it is packed.
            headers["Content-Type"] = _ARCHIVES[file.coding]
        elif file.coding:
            headers["Content-Encoding"] = file.coding
        given = {name.lower() for name, _ in self._destination.headers}
        ours = {name: value for name, value in headers.items() if name.lower() not in given}
        return {**ours, **dict(self._destination.headers)}


def _shown(error: Exception) -> str:
    """Name an error without what it quotes: a URL may carry a signature."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"[:_MAX_REASON]
    return type(error).__name__
