"""An HTTP/2 server that can do everything wrong; what it answers is somebody else's business."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import GoAwayFrame
from typing_extensions import override

from tests.support.providers.faults import Fault, Kind

Header = tuple[str, str]


@dataclass(slots=True)
class Call:
    """One request, whole."""

    connection: int
    stream: int
    headers: list[Header]
    body: bytearray = field(default_factory=bytearray)

    def values(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]

    def value(self, name: str) -> str:
        return next(iter(self.values(name)), "")


@dataclass(slots=True)
class Answer:
    status: int
    headers: list[Header]
    body: bytes = b""


Judge = Callable[[Call], Answer]
"""Looks at a request, takes what it asks for, and answers."""
Choose = Callable[[Call], Fault | None]
Refusal = Callable[[Fault], Answer]


class Http2Server:
    """Listens on a free port of localhost: `async with Http2Server(…) as server`."""

    def __init__(
        self,
        certificate: tuple[Path, Path],
        judge: Judge,
        choose: Choose,
        refusal: Refusal,
        *,
        first_streams: int = 1,
        max_streams: int = 1000,
    ) -> None:
        self.judge, self.choose, self.refusal = judge, choose, refusal
        self.first_streams, self.max_streams = first_streams, max_streams
        self.connections: list[Connection] = []
        self.opened = 0
        self.most_streams = 0
        self.pings = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(*certificate)
        self._context.set_alpn_protocols(["h2"])
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", 0, ssl=self._context
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.cut()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"https://localhost:{self._server.sockets[0].getsockname()[1]}"

    def goaway(self, reason: str = "Shutdown") -> None:
        """Tell every connection to end: streams that are open are still answered."""
        for connection in list(self.connections):
            connection.goaway(connection.newest, reason)


class Connection(asyncio.Protocol):
    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._calls: dict[int, Call] = {}
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self._transport: asyncio.Transport | None = None
        self._open: set[int] = set()
        self._ended_at: int | None = None
        self._raised = False
        self.newest = 0
        self.number = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.opened += 1
        self.number = self._server.opened
        self._server.connections.append(self)
        code = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
        self._h2.local_settings = h2.settings.Settings(
            client=False, initial_values={code: self._server.first_streams}
        )
        self._h2.initiate_connection()
        self._flush()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._server.connections:
            self._server.connections.remove(self)

    @override
    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()
            self.cut()
            return
        for event in events:
            self._take(event)
        self._flush()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def goaway(self, last_stream: int, reason: str, code: int = 0) -> None:
        """Written past h2, which would take the connection for closed and answer no more."""
        frame = GoAwayFrame(0, last_stream, code, f'{{"reason":"{reason}"}}'.encode())
        self._flush()
        self._write(frame.serialize())
        self._ended_at = last_stream

    def raise_limit(self) -> None:
        """Apple allows one stream until a request was authorized."""
        if not self._raised:
            self._raised = True
            code = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
            self._h2.update_settings({code: self._server.max_streams})

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = cast(list[Header], event.headers)
            call = Call(self.number, event.stream_id, [(k, v) for k, v in headers])
            self._calls[event.stream_id] = call
            self.newest = max(self.newest, event.stream_id)
            self._open.add(event.stream_id)
            self._server.most_streams = max(self._server.most_streams, len(self._open))
        elif isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self._calls:
                self._calls[event.stream_id].body += event.data
        elif isinstance(event, h2.events.StreamReset):
            self._open.discard(event.stream_id)
            self._calls.pop(event.stream_id, None)
        elif isinstance(event, h2.events.PingReceived):
            self._server.pings += 1
        elif isinstance(event, h2.events.StreamEnded):
            call = self._calls.pop(event.stream_id)
            if self._ended_at is None or event.stream_id <= self._ended_at:
                self._meet(call)

    def _meet(self, call: Call) -> None:
        fault = self._server.choose(call)
        kind = None if fault is None else fault.kind
        if fault is None or kind is None:
            self._reply(call, self._server.judge(call))
        elif kind is Kind.ANSWER:
            self._reply(call, self._server.refusal(fault))
        elif kind is Kind.CUT_UNREAD:
            self.cut()
        elif kind is Kind.REFUSE:
            self._h2.reset_stream(call.stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            self._open.discard(call.stream)
        elif kind is Kind.GOAWAY_UNREAD:
            self.goaway(call.stream - 2, "Shutdown")
        else:
            self._take_then(kind, call, self._server.judge(call), fault.delay_s)

    def _take_then(self, kind: Kind, call: Call, answer: Answer, delay_s: float) -> None:
        if kind is Kind.CUT_READ:
            self.cut()
        elif kind is Kind.SLOW:
            asyncio.get_running_loop().call_later(delay_s, self._late, call, answer)
        elif kind is Kind.GOAWAY_READ:
            self.goaway(call.stream, "Shutdown")
            self._reply(call, answer)
            self._flush()
            assert self._transport is not None
            self._transport.close()

    def _late(self, call: Call, answer: Answer) -> None:
        with suppress(h2.exceptions.ProtocolError):
            self._reply(call, answer)
            self._flush()

    def _reply(self, call: Call, answer: Answer) -> None:
        headers = [(":status", str(answer.status)), *answer.headers]
        self._h2.send_headers(call.stream, headers, end_stream=not answer.body)
        if answer.body:
            self._h2.send_data(call.stream, answer.body, end_stream=True)
        self._open.discard(call.stream)

    def _flush(self) -> None:
        self._write(self._h2.data_to_send())

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
