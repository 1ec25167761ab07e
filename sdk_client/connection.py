"""Carries out what the session asks for: sockets, timers, frames. The only I/O on the device port.

One task opens one socket after another; each has a writer beside it. The session is fed from here
and from the app's calls, always in the event loop's thread.
"""

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, assert_never

import websockets.exceptions
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sdk_client.api import is_loopback, seconds, split_url
from sdk_client.errors import DisconnectedError
from sdk_client.events import (
    Action,
    Complain,
    Connect,
    ConnectionState,
    Deliver,
    Disconnect,
    Lost,
    Readdress,
    Report,
    Settle,
    Stop,
    Transmit,
)
from sdk_client.session import Session
from sdk_client.wire import CONNECT_PATH, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, MessageFrame

OPEN_TIMEOUT_S: Final = 15.0
CLOSE_TIMEOUT_S: Final = 3.0
MAX_FRAME_BYTES: Final = 1_048_576
MAX_OUTGOING: Final = 256
"""Frames that may wait for the socket before the app's calls have to wait."""
_ABNORMAL: Final = 1006

_log: Final = logging.getLogger("pushwire")  # noqa: TID251 - an app that uses the SDK has its own


class Receiver(Protocol):
    """Who hears of what the gateway sends."""

    def on_deliver(self, message: MessageFrame) -> None:
        """Take a message for the handler."""
        ...

    def on_lost_messages(self, count: int) -> None:
        """Take it that so many messages were lost to the pending cap."""
        ...

    def on_readdressed(self, token: str) -> None:
        """Take a new token."""
        ...

    def on_reported(self, state: ConnectionState, detail: str) -> None:
        """Take a new state."""
        ...

    def on_stopped(self, error: DisconnectedError) -> None:
        """Take it that it is over for good."""
        ...


class Connection:
    """The connection of one device, over all its sockets.

    Args:
        session: decides everything.
        url: the device port, `ws://` or `wss://`.
        receiver: hears of what comes in.
        tls: for `wss`; None: the system's certificates.

    Raises:
        ValueError: the URL is not one of WebSocket.
    """

    def __init__(
        self, session: Session, url: str, receiver: Receiver, tls: ssl.SSLContext | None = None
    ) -> None:
        base = split_url(url, ("ws", "wss"))
        self._url = base.geturl().removesuffix(CONNECT_PATH) + CONNECT_PATH
        self._proxy = not is_loopback(base.hostname or "")
        self._tls = (tls or ssl.create_default_context()) if base.scheme == "wss" else None
        self._session = session
        self._receiver = receiver
        self._socket: ClientConnection | None = None
        self._outgoing: deque[Transmit | Disconnect] = deque()
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0
        self._wanted = asyncio.Event()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False

    def start(self) -> None:
        """Begin to connect, in the running event loop. Repeats do nothing."""
        if self._task is None and not self._ended:
            # The device owns this task until `close`; no block of its user's code could.
            self._task = asyncio.get_running_loop().create_task(self._run(), name="pushwire")
            self._input(self._session.start)

    async def request(self, frame: Callable[[str], Mapping[str, object]]) -> None:
        """Send a frame that the gateway answers, and wait for the answer.

        Args:
            frame: gives the frame for a `ref`.

        Raises:
            RequestError: the gateway refused it.
            QueueFullError: too many requests wait already.
            DisconnectedError: the connection ended for good.
        """
        ref = secrets.token_hex(12)
        loop = asyncio.get_running_loop()
        answer = self._answers[ref] = loop.create_future()
        try:
            self.carry_out(self._session.request(ref, frame(ref), loop.time()))
            await answer
        finally:
            del self._answers[ref]
            self._session.forget(ref)

    async def room(self) -> None:
        """Wait while too many frames wait for the socket."""
        while len(self._outgoing) >= MAX_OUTGOING:
            self._room.clear()
            await self._room.wait()

    async def close(self) -> None:
        """Say what is to be said, close the socket, end the task."""
        task, self._task = self._task, None
        opening = self._socket is None
        self.carry_out(self._session.close(asyncio.get_running_loop().time()))
        if task is None or task.done():
            return
        if opening:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await asyncio.wait({task})
        task.cancel()
        await asyncio.wait({task})

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Do what the session asks for, in order."""
        for action in actions:
            match action:
                case Transmit():
                    self._outgoing.append(action)
                    self._work.set()
                case Deliver(message):
                    self._receiver.on_deliver(message)
                case Connect():
                    self._drop_socket()
                    self._wanted.set()
                case Disconnect():
                    self._outgoing.append(action)
                    self._work.set()
                    if action.abort:
                        self._drop_socket()
                case Settle(ref, error):
                    self._settle(ref, error)
                case _:
                    self._tell(action)
        self._arm()

    def _tell(self, action: Lost | Readdress | Report | Complain | Stop) -> None:
        match action:
            case Lost(count):
                self._receiver.on_lost_messages(count)
            case Readdress(token):
                self._receiver.on_readdressed(token)
            case Report(state, detail):
                self._receiver.on_reported(state, detail)
            case Complain(event, detail):
                _log.warning("%s: %s", event, detail)
            case Stop(error):
                self._ended = True
                self._wanted.set()
                self._receiver.on_stopped(error)
            case _:
                assert_never(action)

    def _settle(self, ref: str, error: Exception | None) -> None:
        answer = self._answers.get(ref)
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

    def _input(self, feed: Callable[[float], Sequence[Action]]) -> None:
        self.carry_out(feed(asyncio.get_running_loop().time()))

    # Time.

    def _arm(self) -> None:
        """Have `on_timer` called at the session's deadline, or earlier: that does no harm."""
        deadline = self._session.deadline
        if self._timer is not None:
            if self._timer_due <= deadline and not self._ended:
                return
            self._timer.cancel()
            self._timer = None
        if deadline != float("inf"):
            # Not `when()`: what uvloop gives for a time that has come does not have it.
            self._timer_due = deadline
            self._timer = asyncio.get_running_loop().call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._input(self._session.on_timer)

    # Sockets.

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._ended:
                return
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001 - the app would wait for ever; it is logged
                _log.exception("connection.failed")
                text = f"cannot connect: {type(error).__name__}: {error}"
                self._lost(None, text)

    async def _serve(self) -> None:
        """Open a socket and serve it to its end."""
        try:
            socket = await self._open()
        except websockets.exceptions.InvalidStatus as refusal:
            response = refusal.response
            after_s = seconds(response.headers.get("Retry-After"))
            text = f"refused with HTTP {response.status_code}"
            self._lost(None, text, after_s)
            return
        except (OSError, websockets.exceptions.WebSocketException, EOFError) as error:
            self._lost(None, f"cannot connect: {str(error) or type(error).__name__}")
            return
        self._outgoing.clear()
        self._socket = socket
        try:
            self._input(self._session.on_open)
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(socket))
                await self._read(socket)
                writer.cancel()
        finally:
            self._socket = None
            socket.transport.abort()
            await socket.wait_closed()
            # What this socket did not take, no other one will.
            self._outgoing.clear()
            self._room.set()
        self._lost(socket.close_code or _ABNORMAL, socket.close_reason or "")

    def _lost(self, code: int | None, reason: str, retry_after_s: float | None = None) -> None:
        now = asyncio.get_running_loop().time()
        self.carry_out(self._session.on_lost(code, reason, now, retry_after_s=retry_after_s))

    async def _open(self) -> ClientConnection:
        dialect = self._session.options.dialect
        chosen = SUBPROTOCOL_JSON if dialect == "json" else SUBPROTOCOL_MSGPACK
        return await connect(
            self._url,
            subprotocols=[Subprotocol(chosen)],
            compression=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
            max_size=MAX_FRAME_BYTES,
            proxy=True if self._proxy else None,
            ssl=self._tls,
        )

    async def _read(self, socket: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            while True:
                payload = await socket.recv()
                self.carry_out(self._session.on_message(payload, loop.time()))

    async def _write(self, socket: ClientConnection) -> None:
        outgoing = self._outgoing
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            while True:
                while outgoing:
                    item = outgoing.popleft()
                    if isinstance(item, Disconnect):
                        await socket.close(item.code, item.reason)
                        return
                    await socket.send(item.payload)
                self._room.set()
                self._work.clear()
                await self._work.wait()

    def _drop_socket(self) -> None:
        """Close the socket at once: nobody answers there, or it takes too long to go."""
        if self._socket is not None:
            self._socket.transport.abort()
