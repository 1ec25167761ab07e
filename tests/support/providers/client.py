"""A thin HTTP/2 client on jh2, to drive the providers: what a worker's pool may be made of.

It tells apart what surely was not looked at (`UnsentError`: send again at once) from what may have
been taken (`UnknownError`: send again with the same id).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self, cast
from urllib.parse import urlsplit

import jh2.config
import jh2.connection
import jh2.errors
import jh2.events
import jh2.exceptions
from typing_extensions import override

from router.bridge import Request, Response


class UnsentError(Exception):
    """The provider did not look at the request."""


class UnknownError(Exception):
    """The request was written, and no answer came."""


class _Connection(jh2.connection.H2Connection):  # type: ignore[misc] # it has no types
    """The library takes a connection for closed after GOAWAY, though open streams go on."""

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[Any]]:
        event = jh2.events.ConnectionTerminated()
        event.last_stream_id = frame.last_stream_id
        event.error_code = frame.error_code
        event.additional_data = frame.additional_data
        return [], [event]


class _Stream:
    __slots__ = ("body", "future", "headers")

    def __init__(self, future: asyncio.Future[Response]) -> None:
        self.future = future
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.body = b""


class Http2Client(asyncio.Protocol):
    """One connection. Requests beyond the provider's limit of streams wait in line."""

    def __init__(self, authority: str) -> None:
        config = jh2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.goaway_reason: bytes | None = None
        self._h2 = _Connection(config)
        self._authority = authority
        self._streams: dict[int, _Stream] = {}
        self._line: deque[tuple[Request, _Stream]] = deque()
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self._limit = 0
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, url: str, context: ssl.SSLContext) -> Self:
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            lambda: cls(parts.netloc), parts.hostname or "", parts.port or 443, ssl=context
        )
        return made

    @property
    def usable(self) -> bool:
        return self._transport is not None and self.goaway_reason is None

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def send(self, request: Request) -> asyncio.Future[Response]:
        """Begin a request; what is begun in one turn of the loop is written at once."""
        stream = _Stream(self._loop.create_future())
        if not self.usable:
            stream.future.set_exception(UnsentError("the connection is over"))
            return stream.future
        self._line.append((request, stream))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return stream.future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._write()

    @override
    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except jh2.exceptions.ProtocolError:
            self._write()
            self.close()
            return
        for event in events:
            self._take(event)
        self._flush()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for _, stream in self._line:
            _fail(stream, UnsentError("the connection was lost"))
        for stream in self._streams.values():
            _fail(stream, UnknownError("the connection was lost"))
        self._line.clear()
        self._streams.clear()

    def _take(self, event: Any) -> None:
        kind = type(event)
        stream = self._streams.get(getattr(event, "stream_id", 0) or 0)
        if kind is jh2.events.ConnectionTerminated:
            self._end(event.last_stream_id, event.additional_data or b"")
        elif kind is jh2.events.RemoteSettingsChanged:
            self._limit = self._h2.remote_settings.max_concurrent_streams
        elif stream is None:
            return
        elif kind is jh2.events.ResponseReceived:
            stream.headers = event.headers
        elif kind is jh2.events.DataReceived:
            stream.body += event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif kind is jh2.events.StreamEnded:
            self._answer(self._streams.pop(event.stream_id))
        elif kind is jh2.events.StreamReset:
            refused = event.error_code == jh2.errors.ErrorCodes.REFUSED_STREAM
            error = UnsentError("refused") if refused else UnknownError("the stream was reset")
            _fail(self._streams.pop(event.stream_id), error)

    def _end(self, last_stream: int, reason: bytes) -> None:
        self.goaway_reason = reason
        for number in [each for each in self._streams if each > last_stream]:
            _fail(self._streams.pop(number), UnsentError("the connection ends"))
        while self._line:
            _fail(self._line.popleft()[1], UnsentError("the connection ends"))

    def _answer(self, stream: _Stream) -> None:
        (_, status), *rest = stream.headers
        headers = {name.decode(): value.decode("latin-1") for name, value in rest}
        if not stream.future.done():
            stream.future.set_result(Response(int(status), headers, stream.body))

    def _flush(self) -> None:
        self._flushing = False
        while self._line and len(self._streams) < self._limit:
            request, stream = self._line[0]
            if self._h2.outbound_flow_control_window < len(request.body):
                break
            self._line.popleft()
            number = self._h2.get_next_available_stream_id()
            head = [
                (":method", request.method),
                (":scheme", "https"),
                (":authority", self._authority),
                (":path", request.path),
                *request.headers,
            ]
            self._h2.send_headers(number, head)
            self._h2.send_data(number, request.body, end_stream=True)
            self._streams[number] = stream
        self._write()
        if self.goaway_reason is not None and not self._streams:
            self.close()

    def _write(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)


def _fail(stream: _Stream, error: Exception) -> None:
    with suppress(asyncio.InvalidStateError):
        stream.future.set_exception(error)
