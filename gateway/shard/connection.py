"""One device's socket: handshake, frames, session, and the actions that a session asks for.

The thin I/O around the sans-I/O parts: bytes go through `handshake`, then `frames` into `session`;
of the session's actions `Send` and `Close` are carried out here, all others by `Services`. There is
no task and no loop timer per connection: `tick` comes from the listener's timer wheel.
"""

import asyncio
import functools
from collections.abc import Sequence
from typing import Final, cast

from typing_extensions import override

from gateway.shard.congestion import HIGH_WATER, LOW_WATER, Congestion
from gateway.shard.environment import Environment
from gateway.shard.events import Action, Close, Relay, Send
from gateway.shard.frames import (
    BINARY,
    PONG,
    TEXT,
    Closed,
    Event,
    Failed,
    Ping,
    Pong,
    Reader,
    build_frame,
    build_header,
    close_frame,
)
from gateway.shard.handshake import Handshake, Refused, refusal_response
from gateway.shard.session import Session
from router.model.errors import CloseCode

_REQUEST_TIMEOUT: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
# With no deadline of its own a connection still stands in the wheel, which knows them all.
_NEVER_MS: Final = 86_400_000


_HANDSHAKE: Final = 0
_OPEN: Final = 1
_CLOSING: Final = 2
"""Our close frame is written, the peer's awaited; the session is over."""
_FINISHED: Final = 3
"""Nothing more is written or read; the peer's end of the stream is awaited."""


class Connection(asyncio.Protocol):
    """One socket, from accept to its end."""

    __slots__ = (
        "_armed_ms",
        "_congestion",
        "_deadline_ms",
        "_environment",
        "_frames_until_ms",
        "_handshake",
        "_phase",
        "_reader",
        "_transport",
        "session",
    )

    session: Session
    """Stands from `Services.opened` on."""

    def __init__(self, environment: "Environment[Connection]") -> None:
        self._environment = environment
        self._transport: asyncio.Transport | None = None
        self._phase = _HANDSHAKE
        self._handshake: Handshake | None = None
        self._reader: Reader | None = None
        self._congestion: Congestion | None = None
        self._deadline_ms = 0
        """Of the connection itself, beside the session's: handshake, slow consumer, close."""
        self._armed_ms = 0
        self._frames_until_ms: float = 0
        """How far the frames that came reach, at the rate that is accepted."""

    @property
    def open(self) -> bool:
        """Whether the session is alive."""
        return self._phase == _OPEN

    @property
    def begun(self) -> bool:
        """Whether it has its socket, or had it."""
        return self._transport is not None or self._phase == _FINISHED

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        environment = self._environment
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        peer, admit_client = _address(transport), None
        if not environment.entered and (refusal := environment.enter(peer)) is not None:
            environment.refused(refusal.reason)
            self._transport.write(refusal_response(refusal))
            self._finish()
            return
        if environment.doorkeeper is not None:
            admit_client = functools.partial(environment.doorkeeper.behind_proxy, peer)
        self._handshake = Handshake(environment.terms, environment.admit, admit_client)
        self._set_deadline(environment.handshake_ms)

    @override
    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            if self._handshake is None:
                return
            data = self._shake(self._handshake, data)
            if not data:
                return
        reader = self._reader
        if reader is not None and (events := reader.feed(data)):
            self._take(events)

    @override
    def eof_received(self) -> None:
        # Returning nothing has the transport closed once its buffer is written.
        if self._phase == _OPEN:
            self._phase = _FINISHED
            self._set_deadline(self._environment.close_ms)
            self._end("lost")
        self._phase = _FINISHED
        self._reader = self._handshake = None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self._phase = self._phase == _OPEN, _FINISHED
        self._reader = self._handshake = self._congestion = None
        if was_open:
            self._end("lost")
        self._environment.wheel.disarm(self, self._armed_ms)
        self._armed_ms = 0
        self._transport = None
        self._environment.leave()

    @override
    def pause_writing(self) -> None:
        self._congestion = Congestion()
        if self._phase == _OPEN:
            self._set_deadline(self._environment.slow_consumer_ms)
            self.carry_out(self.session.on_writable(False, self._environment.now_ms()))

    @override
    def resume_writing(self) -> None:
        congestion, self._congestion = self._congestion, None
        if self._phase != _OPEN:
            return
        self._deadline_ms = 0
        if congestion is not None and congestion.pong is not None:
            self._write(build_frame(PONG, congestion.pong))
        self.carry_out(self.session.on_writable(True, self._environment.now_ms()))

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Carry out what an input of the session returned, in order."""
        # Nothing for an ack, and one frame for all in a fan-out: nearly all that there is.
        if actions:
            if len(actions) > 1 or type(relay := actions[0]) is not Relay:
                self._carry_out_all(actions)
                return
            self._write(relay.data)
        if self._deadline_ms or not 0 < self._armed_ms <= self.session.deadline_ms:
            self._arm()

    def _carry_out_all(self, actions: Sequence[Action]) -> None:
        over = ""
        parts: list[bytes] = []
        for action in actions:
            if type(action) is Send:
                opcode, payload = BINARY, action.payload
                if isinstance(payload, str):
                    opcode, payload = TEXT, payload.encode()
                parts += (build_header(opcode, len(payload)), payload)
                continue
            if type(action) is Relay:
                parts.append(action.data)
                continue
            if parts:
                self._write(b"".join(parts))
                parts.clear()
            if type(action) is Close:
                over = over or self._close(action.code, action.reason)
            else:
                self._environment.services.perform(self, action)
        if parts:
            self._write(b"".join(parts))
        if over:
            self._end(over)
        elif self._phase == _OPEN:
            self._arm()

    def tick(self, now_ms: int) -> None:
        """Take it that the wheel has given this connection, which it no longer holds."""
        self._armed_ms = 0
        if self._transport is None:
            return
        if self._deadline_ms and now_ms >= self._deadline_ms:
            self._deadline_ms = 0
            self._expire()
        if self._phase == _OPEN and 0 < self.session.deadline_ms <= now_ms:
            self.carry_out(self.session.on_timer(now_ms))
        self._arm()

    def abort(self) -> None:
        """Drop the socket at once, with what is buffered."""
        if self._transport is not None:
            self._transport.abort()

    # Input.

    def _shake(self, handshake: Handshake, data: bytes) -> bytes:
        """Feed the handshake; give the first bytes of frames that came with its end."""
        environment = self._environment
        outcome = handshake.feed(data)
        if outcome is None or self._transport is None:
            return b""
        self._handshake = None
        self._transport.write(outcome.response)
        if isinstance(outcome, Refused):
            environment.refused(outcome.reason)
            self._finish()
            return b""
        self._phase = _OPEN
        self._deadline_ms = 0
        self._reader = Reader(environment.max_frame_bytes)
        dialect = environment.dialects[outcome.subprotocol]
        self.session = Session(dialect, environment.limits, environment.now_ms())
        environment.services.opened(self)
        self._arm()
        return outcome.rest

    def _take(self, events: Sequence[Event]) -> None:
        environment = self._environment
        now_ms = environment.now_ms()
        if environment.frame_ms:
            if len(events) == 1 and self._frames_until_ms <= now_ms:
                # Nearly always: it has been quiet, and a single frame is never too many.
                self._frames_until_ms = now_ms + environment.frame_ms
            elif not self._keeps_pace(now_ms, len(events)):
                return
        for event in events:
            if type(event) is bytes or type(event) is str:
                if self._phase == _OPEN:
                    self.carry_out(self.session.on_message(event, now_ms))
            else:
                self._control(event, now_ms)

    def _control(self, event: Event, now_ms: int) -> None:
        if type(event) is Ping:
            self.session.on_alive(now_ms)
            self._answer(event.payload)
        elif type(event) is Pong:
            self.session.on_alive(now_ms)
        elif type(event) is Closed:
            self._on_closed(event)
        elif type(event) is Failed:
            self._fail(event)

    def _keeps_pace(self, now_ms: int, frames: int) -> bool:
        """Count frames that came; False where they are too many, and the connection ends."""
        environment = self._environment
        reach_ms = environment.pace(self._frames_until_ms, now_ms, frames)
        if reach_ms < 0:
            environment.refused("frames")
            self._fail(Failed(CloseCode.POLICY, "too many frames"))
            return False
        self._frames_until_ms = reach_ms
        return True

    def _answer(self, payload: bytes) -> None:
        if self._congestion is not None:
            self._congestion.pong = payload
        else:
            self._write(build_frame(PONG, payload))

    def _on_closed(self, event: Closed) -> None:
        was_open = self._phase == _OPEN
        if was_open:
            # RFC 6455 5.5.1: the answer typically echoes the code.
            self._write(close_frame(event.code))
        self._finish()
        if was_open:
            self._end("client_close")

    def _fail(self, event: Failed) -> None:
        over = self._close(event.code, event.reason)
        # RFC 6455 7.1.7: the peer is not waited for, nor is it heard.
        self._finish()
        if over:
            self._end(over)

    # Output.

    def _write(self, data: bytes) -> None:
        if self._phase != _OPEN or self._transport is None:
            return
        congestion = self._congestion
        self._transport.write(data)
        if congestion is not None and congestion.overruns(len(data)):
            self._drop_slow()

    def _drop_slow(self) -> None:
        if over := self._close(CloseCode.SLOW_CONSUMER, "too slow"):
            self._end(over)

    def _close(self, code: CloseCode, reason: str) -> str:
        """Write the close frame; where the session is over by it, give the reason for `_end`."""
        if self._phase != _OPEN or self._transport is None:
            return ""
        self._transport.write(close_frame(code, reason))
        self._phase = _CLOSING
        self._set_deadline(self._environment.close_ms)
        return code.name.lower()

    def _finish(self) -> None:
        """Write nothing more, and wait for the peer's end of the stream, for a while.

        Closing at once with unread bytes in the kernel would send a reset, which can overtake the
        close frame.
        """
        transport = self._transport
        if transport is None or self._phase == _FINISHED:
            return
        self._phase = _FINISHED
        self._reader = self._handshake = None
        self._set_deadline(self._environment.close_ms)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _end(self, reason: str) -> None:
        """Tell the session and the shard, once, that it is over."""
        environment = self._environment
        for action in self.session.on_closed(environment.now_ms()):
            environment.services.perform(self, action)
        environment.services.closed(self, reason)

    # Time.

    def _set_deadline(self, duration_ms: int) -> None:
        self._deadline_ms = self._environment.now_ms() + duration_ms
        self._arm()

    def _arm(self) -> None:
        """Have the wheel give this connection at the earliest of its deadlines."""
        opened = self._phase == _OPEN
        if opened and not self._deadline_ms and 0 < self._armed_ms <= self.session.deadline_ms:
            return
        if self._transport is None:
            return
        due_ms = self._deadline_ms
        if opened:
            session_ms = self.session.deadline_ms
            if session_ms and (not due_ms or session_ms < due_ms):
                due_ms = session_ms
        if not due_ms:
            due_ms = self._environment.now_ms() + _NEVER_MS
        armed_ms = self._armed_ms
        if not armed_ms or due_ms < armed_ms:
            self._armed_ms = self._environment.wheel.arm(self, due_ms, armed_ms)

    def _expire(self) -> None:
        if self._phase == _OPEN:
            self._drop_slow()
        elif self._phase == _HANDSHAKE and self._transport is not None:
            self._environment.refused("timeout")
            self._transport.write(_REQUEST_TIMEOUT)
            self._finish()
        else:
            self.abort()


def _address(transport: asyncio.BaseTransport) -> str:
    """Give the peer's address; empty where it has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
