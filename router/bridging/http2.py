"""One HTTP/2 connection to a provider.

It ends open streams as the protocol says: what the provider surely did not look at fails with
`UnsentError`, the rest with `UnknownError`. It goes on after GOAWAY until what is open is answered,
notices a dead peer by pings, and gives up an answer that does not come.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Self, cast
from urllib.parse import urlsplit

from typing_extensions import override

from router.bridge import Request, Response
from router.bridging.transport import SilentError, UnknownError, UnreachableError, UnsentError
from router.bridging.wire import BrokenError, Headers, Wire

MAX_STREAMS: Final = 1000
"""Requests under way on one connection, whatever the provider allows."""
MAX_BODY_BYTES: Final = 65_536
"""More of an answer's body is not kept."""
PING_S: Final = 5.0
"""A connection on which requests wait and nothing was heard for so long is pinged,"""
IDLE_PING_S: Final = 60.0
"""one on which nothing waits, after so long;"""
PONG_S: Final = 5.0
"""and it is dead when there is no answer within this."""
MAX_AGE_S: Final = 3600.0
"""Then another connection takes its place."""
_LAST_STREAM: Final = 2**30
_SLASHES: Final = "://"


class _Stream:
    __slots__ = ("answer", "body", "ends_s", "headers")

    def __init__(self, answer: asyncio.Future[Response], ends_s: float) -> None:
        self.answer = answer
        self.ends_s = ends_s
        self.headers: Headers = ()
        self.body = b""


class Connection(asyncio.Protocol):
    """Made by `open`. Requests that are begun in one turn of the loop are written at once.

    Args:
        origin: `https://host[:port]`.
        on_room: called when there may be room for more, or the connection ends.
    """

    def __init__(self, origin: str, on_room: Callable[[], None]) -> None:
        scheme, _, authority = origin.partition(_SLASHES)
        self._scheme, self._authority = scheme, authority
        self._on_room = on_room
        self._wire = Wire(self)
        self._streams: dict[int, _Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._made_s = self._heard_s = self._used_s = self._loop.time()
        self._pinged_s = 0.0
        self._flushing = False
        self._paused = False
        self._ending = ""
        self._newest = 0

    @classmethod
    async def open(
        cls,
        origin: str,
        tls: ssl.SSLContext | None,
        timeout_s: float,
        on_room: Callable[[], None],
    ) -> Self:
        """Connect.

        Raises:
            UnreachableError: nobody listens there, or not in time, or not as the TLS context wants.
        """
        parts = urlsplit(origin)
        port = parts.port or (443 if tls else 80)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, made = await loop.create_connection(
                    lambda: cls(origin, on_room), parts.hostname or "", port, ssl=tls
                )
        except TimeoutError:
            raise UnreachableError(f"no connection within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise UnreachableError(_shown(error)) from error
        return made

    @property
    def is_http2(self) -> bool:
        """Whether the peer agreed to speak HTTP/2; without TLS that is taken for granted."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return tls is None or cast("ssl.SSLObject", tls).selected_alpn_protocol() == "h2"

    @property
    def usable(self) -> bool:
        """Whether requests may begin here."""
        return self._transport is not None and not self._ending

    @property
    def closed(self) -> bool:
        """Whether nothing is left of it."""
        return self._transport is None

    @property
    def under_way(self) -> int:
        """How many requests wait for their answers."""
        return len(self._streams)

    @property
    def idle_since_s(self) -> float:
        """When the last request began or ended, by the clock of the loop."""
        return self._used_s

    def has_room(self, size: int) -> bool:
        """Tell whether a request with a body of this size may begin now."""
        return (
            self.usable
            and not self._paused
            and len(self._streams) < min(self._wire.streams_limit, MAX_STREAMS)
            and self._wire.room_for(size)
        )

    def send(self, request: Request, answer: asyncio.Future[Response], timeout_s: float) -> None:
        """Begin a request where there is room for it.

        Args:
            request: all of it is sent, whatever its deadline says.
            answer: fails with UnsentError, or with UnknownError where the provider may have seen
                the request.
            timeout_s: how long to wait for the answer.
        """
        now_s = self._loop.time()
        stream = _Stream(answer, now_s + timeout_s)
        if not self._wire.fits(len(request.body)):
            _fail(stream, UnsentError("the peer's window is too small"))
            return
        head = [
            (":method", request.method),
            (":scheme", self._scheme),
            (":authority", self._authority),
            (":path", request.path),
            *request.headers,
        ]
        try:
            number = self._wire.request(head, request.body)
        except BrokenError as error:
            _fail(stream, UnsentError(_shown(error)))
            self._break()
            return
        self._used_s = now_s
        if not self._streams:
            self._heard_s = now_s  # silence counts from here
        self._streams[number] = stream
        self._newest = number
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def tick(self) -> None:
        """Look after it, about once a second: late answers, silence, age."""
        if self._transport is None:
            return
        now_s = self._loop.time()
        while self._streams:
            number, oldest = next(iter(self._streams.items()))
            if oldest.ends_s > now_s and not oldest.answer.done():
                break
            del self._streams[number]
            self._wire.cancel(number)
            _fail(oldest, SilentError("no answer within the time-out"))
        if self._pinged_s and now_s - self._pinged_s >= PONG_S:
            self.abort("the connection is dead: no answer to a ping")
            return
        quiet_s = now_s - self._heard_s
        if not self._pinged_s and quiet_s >= (PING_S if self._streams else IDLE_PING_S):
            self._pinged_s = now_s
            self._wire.ping()
        if now_s - self._made_s >= MAX_AGE_S or self._newest >= _LAST_STREAM:
            self.retire("it is old")
        self._flush()

    def retire(self, reason: str) -> None:
        """Begin no more requests; close once those under way are answered."""
        self._ending = self._ending or reason
        self._close_if_done()

    def close(self) -> None:
        """Close at once, politely."""
        if self._transport is not None and not self._transport.is_closing():
            self._ending = self._ending or "closed"
            self._wire.goodbye()
            self._flush()
            self._transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self.is_http2:
            self._flush()

    @override
    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        self._pinged_s = 0.0
        try:
            self._wire.receive(data)
        except BrokenError:
            self._break()
            return
        self._on_room()
        self._flush()
        self._close_if_done()

    @override
    def pause_writing(self) -> None:
        self._paused = True

    @override
    def resume_writing(self) -> None:
        self._paused = False
        self._on_room()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lose("the connection was lost" if exc is None else _shown(exc))

    def on_headers(self, stream: int, headers: Headers) -> None:
        """Keep the head of an answer."""
        if (found := self._streams.get(stream)) is not None:
            found.headers = headers

    def on_data(self, stream: int, data: bytes) -> None:
        """Keep a part of its body, to a limit."""
        found = self._streams.get(stream)
        if found is not None and len(found.body) < MAX_BODY_BYTES:
            found.body += data

    def on_end(self, stream: int) -> None:
        """Hand an answer over."""
        found = self._streams.pop(stream, None)
        if found is None or found.answer.done():
            return
        self._used_s = self._heard_s
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in found.headers}
        status = headers.pop(":status", "")
        if not status.isdigit():
            _fail(found, UnknownError("an answer without a status"))
            return
        found.answer.set_result(Response(int(status), headers, found.body))

    def on_reset(self, stream: int, *, refused: bool) -> None:
        """Fail a request."""
        if (found := self._streams.pop(stream, None)) is not None:
            error = UnsentError("refused") if refused else UnknownError("the stream was reset")
            _fail(found, error)

    def on_goaway(self, last_stream: int, reason: bytes) -> None:
        """Begin nothing more, and fail what the peer will not look at."""
        told = reason[:64].decode("ascii", "replace")
        self._ending = f"the peer said goodbye {told}".strip()
        for number in [each for each in self._streams if each > last_stream]:
            _fail(self._streams.pop(number), UnsentError(self._ending))

    def on_pong(self) -> None:
        """Hear that the peer lives; `data_received` noted it."""

    def _flush(self) -> None:
        self._flushing = False
        data = self._wire.output()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _close_if_done(self) -> None:
        if self._ending and not self._streams:
            self.close()

    def _break(self) -> None:
        self._flush()
        self.abort("the peer broke the protocol")

    def abort(self, reason: str) -> None:
        """Be done with it at once."""
        transport, self._transport = self._transport, None
        self._lose(reason)
        if transport is not None:
            transport.abort()

    def _lose(self, reason: str) -> None:
        self._ending = self._ending or reason
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            _fail(stream, UnknownError(reason))
        self._on_room()


def _fail(stream: _Stream, error: Exception) -> None:
    if not stream.answer.done():
        stream.answer.set_exception(error)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
