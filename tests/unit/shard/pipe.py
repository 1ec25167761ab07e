"""A connection on a transport in memory, with a clock by hand."""

import asyncio
from collections.abc import Callable

from typing_extensions import override

from gateway.shard import dialects
from gateway.shard.congestion import LOW_WATER
from gateway.shard.connection import Connection
from gateway.shard.environment import Doorkeeper, Environment
from gateway.shard.events import Action, Attach, SessionLimits, Tally
from gateway.shard.handshake import Refusal, make_terms
from gateway.shard.timer_wheel import TimerWheel
from router.model.ids import ShardId
from router.model.mailbox import Attached, AttachResult
from tests.conformance.door import CONNECT
from tests.conformance.wire import CLOSE, JSON, ServerFrame, opening_request, read_frames

START_MS = 1_000_000


class Pipe(asyncio.Transport):
    """A transport that keeps what is written, and tells of its end as event loops do."""

    def __init__(self, *, half_close: bool = True, peer: str = "") -> None:
        super().__init__(extra={"peername": (peer, 50_000) if peer else None})
        self.peer = peer
        self.writes: list[bytes] = []
        self.ends: list[str] = []
        self.on_write: Callable[[], None] = lambda: None
        self._half_close = half_close

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        self.on_write()

    @override
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert low == LOW_WATER

    @override
    def can_write_eof(self) -> bool:
        return self._half_close

    @override
    def write_eof(self) -> None:
        self.ends.append("eof")

    @override
    def close(self) -> None:
        self.ends.append("close")

    @override
    def abort(self) -> None:
        self.ends.append("abort")

    def taken(self) -> bytes:
        data = b"".join(self.writes)
        self.writes.clear()
        return data

    def frames(self) -> list[ServerFrame]:
        frames, rest = read_frames(self.taken())
        assert not rest
        return frames


class Bench:
    """One connection, everything around it, and the time."""

    def __init__(
        self,
        *,
        half_close: bool = True,
        max_sockets: int = 10,
        peer: str = "",
        doorkeeper: Doorkeeper | None = None,
        frames: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.now_ms = START_MS
        self.log: list[object] = []
        self.refusals: list[str] = []
        self.emptied = 0
        self.environment = Environment[Connection](
            services=self,
            admit=self.admit,
            refused=self.refusals.append,
            wheel=TimerWheel(START_MS),
            now_ms=lambda: self.now_ms,
            terms=make_terms([JSON], "*"),
            dialects=dialects.discover(),
            limits=SessionLimits(shard=ShardId("s"), tally=Tally()),
            max_frame_bytes=16_384,
            handshake_ms=10_000,
            slow_consumer_ms=30_000,
            max_sockets=max_sockets,
            emptied=self.count_emptied,
            doorkeeper=doorkeeper,
            frame_ms=frames[0],
            frames_ms=frames[1],
        )
        self.pipe = Pipe(half_close=half_close, peer=peer)
        self.connection = Connection(self.environment)
        self.connection.connection_made(self.pipe)

    def another(self) -> "Pipe":
        """Connect once more from the same address; give the pipe of that connection."""
        pipe = Pipe(peer=self.pipe.peer)
        Connection(self.environment).connection_made(pipe)
        return pipe

    def count_emptied(self) -> None:
        self.emptied += 1

    def admit(self) -> Refusal | None:
        return None

    def opened(self, connection: Connection) -> None:
        assert connection is self.connection
        self.log.append("opened")

    def perform(self, connection: Connection, action: Action) -> None:
        assert connection is self.connection
        self.log.append(action)
        if isinstance(action, Attach):
            attached = Attached(AttachResult.ATTACHED, epoch=3)
            connection.carry_out(connection.session.on_attached(attached, self.now_ms))

    def closed(self, connection: Connection, reason: str) -> None:
        assert connection is self.connection
        self.log.append(reason)

    def open(self) -> "Bench":
        self.connection.data_received(opening_request())
        assert self.pipe.taken().startswith(b"HTTP/1.1 101 ")
        return self

    def attach(self) -> "Bench":
        self.open().connection.data_received(CONNECT)
        (welcome,) = self.pipe.frames()
        assert b"welcome" in welcome.payload
        self.log.clear()
        return self

    def pass_time(self, duration_ms: int) -> None:
        """Let time pass as the listener does, tick by tick."""
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms = min(self.now_ms + 100, end_ms)
            for connection in self.environment.wheel.advance(self.now_ms):
                connection.tick(self.now_ms)

    def lose(self) -> None:
        self.connection.connection_lost(None)
        assert len(self.environment.wheel) == 0
        assert self.environment.sockets == 0
        assert self.emptied == 1

    def close_codes(self) -> list[int | None]:
        return [answer.code for answer in self.pipe.frames() if answer.opcode == CLOSE]
