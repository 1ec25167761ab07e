"""HTTP/1.1 on aiohttp's low-level server: one function call a request, one write an answer.

aiohttp parses, keeps connections alive and shuts down; routing, limits and the writing of answers
are ours. No answer leaves in another shape than `errors` gives.
"""

import asyncio
import http
import resource
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from typing_extensions import override

from gateway.api import errors
from gateway.api.admission import Gate
from gateway.api.door import Admission, DoorProtocol
from router.model.errors import ErrorCode, PushError

KEEPALIVE_S: Final = 75.0
"""An idle connection, or one whose headers do not come, is closed after so many seconds."""
_LINGER_S: Final = 2.0
FULL_RETRY_S: Final = 1.0
_RESERVED_DESCRIPTORS: Final = 256
"""For the store, logs, metrics, and connections above the bound while they hear so."""
_FULL_TEXT: Final = (
    "The API has too many connections: keep some open and use them again, or raise "
    "`api_max_connections`. Nothing was accepted."
)
_WRITE_HIGH: Final = 65_536
_MAX_LINE: Final = 8190
_JSON: Final = "application/json"
_EMPTY: Final[Mapping[str, str]] = {}
_HEADS: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in http.HTTPStatus
}

_log: structlog.stdlib.BoundLogger = structlog.get_logger("api")


class Reply(web.StreamResponse):
    """One whole answer, written at once.

    Args:
        body: bytes of the content.
        status: HTTP status.
        headers: besides Content-Type, Content-Length, Date and Connection.
        content_type: of the body.
        close: end the connection after it.
    """

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        *,
        headers: Mapping[str, str] = _EMPTY,
        content_type: str = _JSON,
        close: bool = False,
    ) -> None:
        # StreamResponse's own state (headers, cookies, chunking) would cost 10 µs and is not used.
        self.content = body
        self.code = status
        self.extra = headers
        self.kind = content_type
        self.closing = close

    @property
    @override
    def keep_alive(self) -> bool:
        return not self.closing

    @override
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the answer; wait only where the peer does not read."""
        protocol, transport = request.protocol, request.transport
        if isinstance(protocol, DoorProtocol):
            protocol.answered()
        if transport is None:
            return None
        transport.write(self._encoded(request))
        if transport.get_write_buffer_size() > _WRITE_HIGH:
            await request.writer.drain()
        return None

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` wrote everything."""

    def _encoded(self, request: web.BaseRequest) -> bytes:
        if not request.keep_alive:
            self.closing = True
        connection = ""
        if self.closing:
            connection = "Connection: close\r\n"
        elif request.version < (1, 1):
            connection = "Connection: keep-alive\r\n"
        extra = "".join([f"{name}: {value}\r\n" for name, value in self.extra.items()])
        head = (
            f"{_HEADS[self.code]}Content-Type: {self.kind}\r\n"
            f"Content-Length: {len(self.content)}\r\n"
            f"Date: {rfc822_formatted_time()}\r\n{connection}{extra}\r\n"
        ).encode("latin-1", "replace")
        return head if request.method == "HEAD" else head + self.content


def connection_limit(configured: int) -> int:
    """Give how many connections are served: as configured, and no more than descriptors allow.

    Args:
        configured: `settings.api_max_connections`; 0 for as many as descriptors allow.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return configured or 1_000_000
    allowed = soft - min(_RESERVED_DESCRIPTORS, soft // 4)
    return min(configured, allowed) if configured else allowed


Answer = Callable[[web.BaseRequest], Awaitable[Reply]]


class _Protocol(DoorProtocol):
    """aiohttp's connection, with our words for what is not HTTP."""

    __slots__ = ()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read as a request; `Service.answer` lets nothing else out."""
        if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            code, text = ErrorCode.INVALID_ARGUMENT, "The request is not valid HTTP/1.1."
        else:
            _log.error("request.failed", exc_info=exc)
            code, text = ErrorCode.INTERNAL, errors.INTERNAL_TEXT
        return Reply(errors.encode(PushError(code, text)), code.value.http, close=True)


class _Full(asyncio.Protocol):
    """A connection above the bound: told so, without reading its request."""

    def __init__(self, response: bytes) -> None:
        self._response = response
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._response)
        # Closing with unread bytes in the kernel sends a reset, which may overtake the answer.
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, self._transport.abort)


class HttpServer(web.Server):
    """Connections of one port.

    Args:
        answer: gives the reply to a request, and never raises.
        max_connections: that are served; more are answered 503.
        refused: told of each that is not.
        admission: of requests; without it, all of them are let in.
    """

    def __init__(
        self,
        answer: Answer,
        max_connections: int,
        refused: Callable[[], None],
        admission: Admission | None = None,
    ) -> None:
        super().__init__(self._answer)
        self._handle = answer
        self._admission = admission or Admission(Gate(0), _ignore, _ignore)
        self._running = asyncio.get_running_loop()
        self._max = connection_limit(max_connections)
        self._refused = refused

    def accept(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        if len(self.connections) < self._max:
            return self()
        self._refused()
        error = PushError(ErrorCode.UNAVAILABLE, _FULL_TEXT, retry_after_s=FULL_RETRY_S)
        body, retry = errors.encode(error), errors.headers(error)["Retry-After"]
        head = (
            f"{_HEADS[error.code.value.http]}Content-Type: {_JSON}\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: {retry}\r\nConnection: close\r\n\r\n"
        )
        return _Full(head.encode() + body)

    @override
    def __call__(self) -> web.RequestHandler:
        return _Protocol(
            self,
            self._admission,
            loop=self._running,
            keepalive_timeout=KEEPALIVE_S,
            access_log=None,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            lingering_time=_LINGER_S,
            auto_decompress=False,  # `request` does it where a body is wanted, within its limit
        )

    async def _answer(self, request: web.BaseRequest) -> Reply:
        """Answer a request, and let it out."""
        protocol = cast("DoorProtocol", request.protocol)
        try:
            protocol.refuse_late(request.path)
        except PushError as error:
            return Reply(errors.encode(error), error.code.value.http, headers=errors.headers(error))
        counts = False
        try:
            reply = await self._handle(request)
            counts = request.method == "POST" and reply.code < http.HTTPStatus.MULTIPLE_CHOICES
            return reply
        finally:
            protocol.leave(counts=counts)


def _ignore(*_told: object) -> None:
    """Take no notice."""
