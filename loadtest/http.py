"""A lean HTTP/1.1 client: keep-alive, one request at a time, answers with a Content-Length.

The generator shares the machine with the server that it measures, so it parses no more than it
needs: the status, the length, the body.
"""

import asyncio
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

from typing_extensions import override

from loadtest.address import target_of

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Response(NamedTuple):
    """A status and a body."""

    status: int
    body: bytes


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection; `open_connection` makes one."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._received = b""
        self._loop = asyncio.get_running_loop()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    @override
    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        head_end = received.find(_END)
        if head_end < 0:
            return
        head = received[:head_end].lower()
        at = head.find(_LENGTH)
        if at < 0:
            self._fail(ConnectionError("an answer without Content-Length"))
            return
        line_end = head.find(b"\r\n", at)
        length = int(head[at + len(_LENGTH) : line_end if line_end > 0 else None])
        end = head_end + len(_END) + length
        if len(received) < end:
            return
        self._received = received[end:]
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(Response(int(received[9:12]), received[end - length : end]))
        if b"\r\nconnection: close" in head and self._transport is not None:
            self._transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(ConnectionError("the server closed the connection"))

    @property
    def usable(self) -> bool:
        """Whether another request can go out on this connection."""
        return self._transport is not None and not self._transport.is_closing()

    async def request(self, request: bytes, timeout_s: float = 30.0) -> Response:
        """Send a whole request (see `encode_request`) and wait for its answer.

        Raises:
            ConnectionError: the connection is, or went, away: the outcome is unknown.
            TimeoutError: no answer within `timeout_s`; the connection is given up.
        """
        if self._transport is None:
            raise ConnectionError("not connected")
        if self._waiter is not None:
            raise RuntimeError("one request at a time")
        waiter: asyncio.Future[Response] = self._loop.create_future()
        self._waiter = waiter
        self._transport.write(request)
        timer = self._loop.call_later(timeout_s, self._fail, TimeoutError("no answer"))
        try:
            return await waiter
        finally:
            timer.cancel()
            if self._waiter is waiter:  # cancelled: an answer still to come would confuse the next
                self._waiter = None
                self.close()

    def close(self) -> None:
        """Give up the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
            self.close()


async def open_connection(base_url: str) -> HttpConnection:
    """Connect to the host of an `http://` or `https://` URL.

    Raises:
        OSError: it refuses.
        ValueError: it is no URL.
    """
    target = target_of(base_url)
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(
        HttpConnection, target.host, target.port, ssl=target.tls
    )
    return protocol


def address_of(url: str) -> tuple[str, int]:
    """Give the host and the port of a URL that names both.

    Raises:
        ValueError: it does not.
    """
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{url}: needs a host and a port")
    return parts.hostname, parts.port


def encode_request(method: str, base_url: str, path: str, body: bytes, **headers: str) -> bytes:
    """Write a request; underscores in the names of `headers` stand for hyphens."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(base_url).netloc}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body
