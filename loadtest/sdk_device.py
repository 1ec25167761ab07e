"""A device that is the SDK's session over a lean socket: its rules, without its files and tasks.

`sdk_client.session` decides when to connect, what the handler gets, what is acked; here are the
socket, the timer, and a handler that is done at once.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, cast

from typing_extensions import override

from loadtest.lean_device import BINARY, CLOSE, PING, PONG, encode_frame, split_frames, upgrade
from sdk_client.events import (
    Action,
    Connect,
    ConnectionState,
    Deliver,
    Disconnect,
    Stop,
    Transmit,
)
from sdk_client.options import Identity, Options
from sdk_client.session import Session

_SWITCHED: Final = b"HTTP/1.1 101"
_END: Final = b"\r\n\r\n"

Opener = Callable[[asyncio.Protocol], Coroutine[object, object, None]]
"""Connects a protocol to the gateway; raises OSError where that fails."""


class SdkDevice:
    """One installation of an app, over all of its connections.

    Args:
        credential: the device's secret.
        host: the Host header.
        uniform: the random source of the backoff.
        opener: opens a socket.
        tasks: owns the tasks that open sockets.
    """

    def __init__(
        self,
        credential: str,
        host: str,
        uniform: Callable[[float, float], float],
        opener: Opener,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.handled: list[str] = []
        """Ids of the messages that the handler got, in order."""
        self.connects = 0
        self.stopped = ""
        """Why the session ended for good."""
        self.request = upgrade(host, credential)
        self._opener = opener
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        # The signs of life of thousands are load without an end.
        options = Options(heartbeat_s=120.0, backoff_base_s=0.5, backoff_cap_s=4.0)
        self._session = Session(Identity(credential), uniform, options=options)
        self._socket: _Socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._away_until = 0.0

    @property
    def connected(self) -> bool:
        """Whether the gateway has welcomed it."""
        return self._session.state is ConnectionState.CONNECTED

    def start(self) -> None:
        """Connect, and stay connected."""
        self._carry_out(self._session.start(self._loop.time()))

    def go_away(self, seconds: float, *, abort: bool) -> None:
        """Lose the socket, and do not come back before so many seconds."""
        self._away_until = self._loop.time() + seconds
        if self._socket is not None:
            self._socket.drop(abort=abort)

    def come_back(self) -> None:
        """Stay away no longer."""
        self._away_until = 0.0

    # For its socket.

    def opened(self, socket: "_Socket") -> None:
        """Take it that the handshake is done."""
        if socket is self._socket:
            self.connects += 1
            self._carry_out(self._session.on_open(self._loop.time()))

    def received(self, socket: "_Socket", payload: bytes) -> None:
        """Take one message."""
        if socket is self._socket:
            self._carry_out(self._session.on_message(payload, self._loop.time()))

    def lost(self, socket: "_Socket", code: int | None, reason: str, retry_s: float | None) -> None:
        """Take it that a socket is gone."""
        if socket is not self._socket:
            return
        self._socket = None
        now = self._loop.time()
        self._carry_out(self._session.on_lost(code, reason, now, retry_after_s=retry_s))

    # Inside.

    def _carry_out(self, actions: Sequence[Action]) -> None:
        waiting = list(actions)
        while waiting:
            action = waiting.pop(0)
            match action:
                case Transmit(payload) if self._socket is not None:
                    self._socket.write(BINARY, cast("bytes", payload))
                case Deliver(message):
                    self.handled.append(message.id)
                    waiting += self._session.on_handled(message.id, self._loop.time())
                case Connect():
                    self._tasks.create_task(self._open())
                case Disconnect():
                    socket, self._socket = self._socket, None
                    if socket is not None:
                        socket.drop(abort=action.abort)
                case Stop(error):
                    self.stopped = str(error)
                case _:
                    pass
        self._wind_up()

    def _wind_up(self) -> None:
        """Have the timer at the session's deadline, or before it."""
        deadline = self._session.deadline
        if self._timer is not None:
            if self._due <= deadline:
                return
            self._timer.cancel()
        self._timer, self._due = None, deadline
        if deadline < math.inf:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._carry_out(self._session.on_timer(self._loop.time()))

    async def _open(self) -> None:
        while (wait_s := self._away_until - self._loop.time()) > 0:  # noqa: ASYNC110 - may be cut short
            await asyncio.sleep(min(wait_s, 0.25))
        socket = self._socket = _Socket(self)
        try:
            await self._opener(socket)
        except OSError as error:
            self.lost(socket, None, str(error), None)


class _Socket(asyncio.Protocol):
    """One connection: the handshake, then frames."""

    def __init__(self, device: SdkDevice) -> None:
        self._device = device
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._open = False
        self._why: tuple[int | None, str, float | None] = (None, "reset", None)

    def write(self, first_byte: int, payload: bytes) -> None:
        """Write a frame."""
        if self._transport is not None:
            self._transport.write(encode_frame(first_byte, payload))

    def drop(self, *, abort: bool) -> None:
        """Close the socket without a word: with a reset, or with the end of the stream."""
        if self._transport is not None:
            (self._transport.abort if abort else self._transport.close)()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.write(self._device.request)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._device.lost(self, *self._why)

    @override
    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._open:
            head, found, rest = data.partition(_END)
            self._buffer = data
            if not found:
                return
            if not head.startswith(_SWITCHED):
                self._refused(head)
                return
            self._open, data = True, rest
            self._device.opened(self)
        frames, self._buffer = split_frames(data)
        for first_byte, payload in frames:
            if first_byte == BINARY:
                self._device.received(self, payload)
            elif first_byte == PING:
                self.write(PONG, payload)
            elif first_byte == CLOSE:
                code = int.from_bytes(payload[:2], "big")
                self._why = (code, payload[2:].decode(errors="replace"), None)
                self.drop(abort=False)

    def _refused(self, head: bytes) -> None:
        lines = head.decode(errors="replace").split("\r\n")
        retry_s = None
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "retry-after":
                retry_s = float(value)
        self._why = (None, lines[0], retry_s)
        self.drop(abort=True)
