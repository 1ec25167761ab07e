"""A handful of HTTP/2 connections to one origin, for one project's credentials.

Requests for which no stream is free wait in line, in order. What the provider did not look at is
sent again at once, elsewhere.
"""

import asyncio
import ssl
from collections import deque
from typing import Final, NamedTuple

from router.bridge import Request, Response
from router.bridging.http2 import Connection
from router.bridging.transport import UnreachableError, UnsentError

MAX_CONNECTIONS: Final = 4
IDLE_S: Final = 900.0
"""A connection that nobody used for so long is closed. Providers want them kept open for long."""
BUSY: Final = 200
"""Where each connection has so many requests under way, another is made beside them."""
_TRIES: Final = 3
"""So often a request is sent that was not looked at."""


class NotHttp2Error(Exception):
    """The origin chose HTTP/1.1."""


class _Waiting(NamedTuple):
    """A request for which no stream is free."""

    request: Request
    answer: asyncio.Future[Response]
    ends_s: float
    """When it is given up, by the clock of the loop."""
    timeout_s: float
    """What its answer may take, once it is sent."""


class Http2Pool:
    """Connects when it is first used. `tick` is to be called about once a second.

    Args:
        origin: `https://host[:port]`.
        tls: with the protocols to offer; None for a cleartext origin that speaks HTTP/2.
        connect_s: what a connection may take to be made.
    """

    def __init__(self, origin: str, tls: ssl.SSLContext | None, connect_s: float) -> None:
        self._origin, self._tls, self._connect_s = origin, tls, connect_s
        self._connections: list[Connection] = []
        self._line: deque[_Waiting] = deque()
        self._opening = 0
        self._loop = asyncio.get_running_loop()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def under_way(self) -> int:
        """How many requests wait for an answer, or for a stream."""
        return len(self._line) + sum(each.under_way for each in self._connections)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open, and nobody waits."""
        return not self._connections and not self._line and not self._opening

    async def send(self, request: Request, timeout_s: float) -> Response:
        """Send a request and give its answer; it waits so long for a stream, and for the answer.

        Raises:
            UnsentError: the provider did not look at it; UnreachableError where there is none.
            UnknownError: it may have; SilentError where the answer did not come in time.
            NotHttp2Error: the origin wants HTTP/1.1.
        """
        ends_s = self._loop.time() + timeout_s
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                return await self._send_once(request, ends_s, timeout_s)
            except UnreachableError:
                raise
            except UnsentError:
                if last or self._loop.time() >= ends_s:
                    raise
        raise AssertionError  # the last try returns or raises

    def tick(self) -> None:
        """Look after connections, and give up what waited too long."""
        now_s = self._loop.time()
        for connection in list(self._connections):
            connection.tick()
            if not connection.under_way and now_s - connection.idle_since_s >= IDLE_S:
                connection.close()
        self._forget_closed()
        while self._line and (self._line[0].ends_s <= now_s or self._line[0].answer.done()):
            late = self._line.popleft()
            _fail(late.answer, UnsentError("no stream was free within the time-out"))
        self._pump()

    def close(self) -> None:
        """Close everything; what is under way fails."""
        self._fail_line(UnsentError("closed"))
        for connection in list(self._connections):
            connection.close()

    async def _send_once(self, request: Request, ends_s: float, timeout_s: float) -> Response:
        answer: asyncio.Future[Response] = self._loop.create_future()
        size = len(request.body)
        if not self._line and (connection := self._pick(size)) is not None:
            connection.send(request, answer, timeout_s)
            if connection.under_way > BUSY and self._wants_another():
                await self._open_another()
            return await answer
        self._line.append(_Waiting(request, answer, ends_s, timeout_s))
        while self._line and not answer.done() and self._wants_another():
            await self._open_another()
        return await answer

    def _pick(self, size: int) -> Connection | None:
        """Give the connection with the fewest requests that has room."""
        found: Connection | None = None
        for each in self._connections:
            if (found is None or each.under_way < found.under_way) and each.has_room(size):
                found = each
        return found

    def _wants_another(self) -> bool:
        usable = sum(each.usable for each in self._connections)
        return usable + self._opening < MAX_CONNECTIONS and self._opening < 1 + usable

    async def _open_another(self) -> None:
        self._opening += 1
        try:
            made = await Connection.open(self._origin, self._tls, self._connect_s, self._pump)
        except UnreachableError as error:
            if not any(each.usable for each in self._connections):
                self._fail_line(error)
            return
        finally:
            self._opening -= 1
        if not made.is_http2:
            self._fail_line(NotHttp2Error())
            made.abort("it does not speak HTTP/2")
            return
        self._connections.append(made)
        self._pump()

    def _pump(self) -> None:
        """Begin what waits, as far as there is room; without a connection it is to begin anew."""
        if self._line and not self._opening and not any(each.usable for each in self._connections):
            self._fail_line(UnsentError("the connection ended"))
        while self._line:
            first = self._line[0]
            if first.answer.done():
                self._line.popleft()
                continue
            if (connection := self._pick(len(first.request.body))) is None:
                return
            self._line.popleft()
            connection.send(first.request, first.answer, first.timeout_s)

    def _fail_line(self, error: Exception) -> None:
        line, self._line = self._line, deque()
        for waiting in line:
            _fail(waiting.answer, type(error)(*error.args))

    def _forget_closed(self) -> None:
        self._connections = [each for each in self._connections if not each.closed]


def _fail(answer: asyncio.Future[Response], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
