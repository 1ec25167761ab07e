"""A connection on a transport in memory and a clock by hand; on real sockets: tests/conformance."""

import asyncio
from collections.abc import Callable

import pytest
from typing_extensions import override

from gateway.shard import dialects
from gateway.shard.connection import LOW_WATER, MAX_OVERRUN, Connection, Environment
from gateway.shard.events import Acked, Action, Attach, Close, Detach, Send, SessionLimits, Tally
from gateway.shard.handshake import Refusal, make_terms
from gateway.shard.timer_wheel import TimerWheel
from router.model.errors import CloseCode
from router.model.ids import MessageId, ShardId
from router.model.mailbox import Ack, Attached, AttachResult
from tests.conformance.door import CONNECT
from tests.conformance.wire import (
    BINARY,
    CLOSE,
    JSON,
    PING,
    PONG,
    TEXT,
    ServerFrame,
    close,
    frame,
    opening_request,
    read_frames,
)

START_MS = 1_000_000


class Pipe(asyncio.Transport):
    """A transport that keeps what is written, and tells of its end as event loops do."""

    def __init__(self, *, half_close: bool = True) -> None:
        super().__init__()
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

    def __init__(self, *, half_close: bool = True, max_sockets: int = 10) -> None:
        self.now_ms = START_MS
        self.log: list[object] = []
        self.refusals: list[str] = []
        self.emptied = 0
        self.environment = Environment(
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
        )
        self.pipe = Pipe(half_close=half_close)
        self.connection = Connection(self.environment)
        self.connection.connection_made(self.pipe)

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


@pytest.fixture
def live() -> Bench:
    return Bench().attach()


def close_codes(bench: Bench) -> list[int | None]:
    return [answer.code for answer in bench.pipe.frames() if answer.opcode == CLOSE]


def test_a_handshake_opens_a_session_and_the_connect_frame_attaches_it() -> None:
    bench = Bench().open()
    assert bench.connection.open
    assert bench.log == ["opened"]
    bench.connection.data_received(CONNECT)
    assert isinstance(bench.log[1], Attach)
    assert [answer.opcode for answer in bench.pipe.frames()] == [TEXT]


def test_frames_behind_the_handshake_are_read() -> None:
    bench = Bench()
    bench.connection.data_received(opening_request() + frame(PING, b"p"))
    assert bench.pipe.taken().endswith(b"\x8a\x01p")


def test_the_sends_of_one_list_leave_in_one_write(live: Bench) -> None:
    live.connection.carry_out([Send(b"one"), Send("zwölf"), Send(b"x" * 200)])
    assert len(live.pipe.writes) == 1
    assert live.pipe.frames() == [
        (BINARY, b"one"),
        (TEXT, "zwölf".encode()),
        (BINARY, b"x" * 200),
    ]


def test_actions_are_carried_out_in_order(live: Bench) -> None:
    live.pipe.on_write = lambda: live.log.append("write")
    acked = Acked((Ack(MessageId("m"), 1, 0),))
    live.connection.carry_out([Send(b"a"), acked, Send(b"b")])
    assert live.log == ["write", acked, "write"]


def test_a_close_ends_the_session_and_nothing_is_written_behind_it(live: Bench) -> None:
    live.connection.carry_out(
        [
            Send(b"a"),
            Close(CloseCode.DISPLACED, "displaced"),
            Send(b"b"),
            Close(CloseCode.POLICY, ""),
        ]
    )
    first, last = live.pipe.frames()
    assert first.payload == b"a"
    assert last == (CLOSE, (4002).to_bytes(2, "big") + b"displaced")
    assert live.log == [Detach(), "displaced"]
    assert not live.connection.open
    live.connection.carry_out([Send(b"c")])
    live.connection.data_received(frame(TEXT, b'{"op":"ping"}') + frame(PING))
    assert live.pipe.writes == []
    live.connection.data_received(close(4002))
    assert live.pipe.ends == ["eof"]
    assert live.log == [Detach(), "displaced"]
    live.lose()
    assert live.log == [Detach(), "displaced"]


def test_our_close_without_an_answer_ends_in_an_abort(live: Bench) -> None:
    live.connection.carry_out([Close(CloseCode.POLICY, "x")])
    live.pass_time(4_900)
    assert live.pipe.ends == []
    live.pass_time(200)
    assert live.pipe.ends == ["abort"]


def test_the_peers_close_is_echoed_and_the_stream_ended(live: Bench) -> None:
    live.connection.data_received(close(1001, b"bye"))
    assert live.pipe.frames() == [(CLOSE, (1001).to_bytes(2, "big"))]
    assert live.pipe.ends == ["eof"]
    assert live.log == [Detach(), "client_close"]
    live.connection.data_received(b"\xff" * 100)
    live.pass_time(5_100)
    assert live.pipe.ends == ["eof", "abort"]


def test_a_violation_is_told_and_not_waited_for(live: Bench) -> None:
    live.connection.data_received(frame(TEXT, b"\xff"))
    assert close_codes(live) == [1007]
    assert live.pipe.ends == ["eof"]
    assert live.log == [Detach(), "invalid_payload"]


def test_a_violation_after_our_close_ends_the_stream(live: Bench) -> None:
    live.connection.carry_out([Close(CloseCode.POLICY, "x")])
    live.connection.data_received(frame(11))
    assert close_codes(live) == [1008]
    assert live.pipe.ends == ["eof"]


def test_a_transport_without_half_close_is_closed() -> None:
    bench = Bench(half_close=False).attach()
    bench.connection.data_received(close(1000))
    assert bench.pipe.ends == ["close"]


@pytest.mark.parametrize("attached", [True, False])
def test_a_lost_socket_ends_the_session(attached: bool) -> None:
    bench = Bench()
    bench = bench.attach() if attached else bench.open()
    bench.log.clear()
    bench.lose()
    assert bench.log == ([Detach(), "lost"] if attached else ["lost"])
    bench.connection.tick(bench.now_ms)
    bench.connection.abort()
    bench.connection.carry_out([Send(b"late"), Close(CloseCode.POLICY, "")])
    assert bench.pipe.writes == []
    assert len(bench.environment.wheel) == 0


def test_the_end_of_the_stream_ends_the_session_once(live: Bench) -> None:
    live.connection.eof_received()
    assert live.log == [Detach(), "lost"]
    live.pass_time(5_100)
    assert live.pipe.ends == ["abort"]
    live.lose()
    assert live.log == [Detach(), "lost"]


def test_the_end_of_the_stream_in_a_handshake() -> None:
    bench = Bench()
    bench.connection.data_received(b"GET ")
    bench.connection.eof_received()
    bench.connection.data_received(b"late")
    bench.lose()
    assert bench.log == []


def test_a_slow_handshake_is_told_and_then_dropped() -> None:
    bench = Bench()
    bench.connection.data_received(b"GET ")
    bench.pass_time(10_100)
    assert bench.pipe.taken().startswith(b"HTTP/1.1 408 ")
    assert bench.refusals == ["timeout"]
    assert bench.pipe.ends == ["eof"]
    bench.pass_time(5_100)
    assert bench.pipe.ends == ["eof", "abort"]


def test_a_device_without_a_connect_frame_is_closed() -> None:
    bench = Bench().open()
    bench.pass_time(10_100)
    assert close_codes(bench) == [4008]
    assert bench.log == ["opened", "connect_timeout"]


def test_signs_of_life_keep_an_idle_device(live: Bench) -> None:
    for data in (frame(PING), frame(PONG), frame(TEXT, b'{"op":"ping"}')) * 3:
        live.pass_time(300_000)
        live.connection.data_received(data)
    assert live.log == []
    live.pipe.writes.clear()
    live.pass_time(400_000)
    assert not live.connection.open
    assert len(close_codes(live)) == 1


def test_a_full_shard_refuses_before_it_reads() -> None:
    bench = Bench(max_sockets=0)
    assert bench.pipe.taken().startswith(b"HTTP/1.1 503 ")
    assert bench.pipe.ends == ["eof"]
    assert bench.refusals == ["full"]
    bench.connection.data_received(opening_request())
    assert bench.pipe.writes == []
    bench.lose()
    assert bench.log == []


def test_a_bad_request_is_answered_and_the_stream_ended() -> None:
    bench = Bench()
    bench.connection.data_received(opening_request("chat"))
    assert bench.pipe.taken().startswith(b"HTTP/1.1 400 ")
    assert bench.refusals == ["bad_request"]
    assert bench.pipe.ends == ["eof"]
    bench.lose()


# A full buffer.


def test_a_full_buffer_keeps_the_last_ping_only(live: Bench) -> None:
    live.connection.pause_writing()
    for number in range(100):
        live.connection.data_received(frame(PING, b"%d" % number))
    assert live.pipe.writes == []
    live.connection.resume_writing()
    assert live.pipe.frames() == [(PONG, b"99")]
    live.connection.data_received(frame(PING, b"x"))
    assert live.pipe.frames() == [(PONG, b"x")]


def test_a_buffer_that_stays_full_ends_a_slow_consumer(live: Bench) -> None:
    live.connection.pause_writing()
    live.pass_time(29_900)
    assert live.connection.open
    live.pass_time(200)
    assert close_codes(live) == [4004]
    assert live.log == [Detach(), "slow_consumer"]
    live.pass_time(5_100)
    assert live.pipe.ends == ["abort"]


def test_a_buffer_that_empties_in_time_does_not(live: Bench) -> None:
    live.connection.pause_writing()
    live.pass_time(29_900)
    live.connection.resume_writing()
    live.pass_time(60_000)
    assert live.connection.open


def test_answers_beyond_a_full_buffer_are_bounded(live: Bench) -> None:
    live.connection.pause_writing()
    question = frame(TEXT, b'{"op":"ping"}')
    sent = 0
    while live.connection.open:
        live.connection.data_received(question)
        sent += 1
        assert sent < MAX_OVERRUN
    assert len(live.pipe.taken()) < MAX_OVERRUN + 200
    assert live.log == [Detach(), "slow_consumer"]


def test_pausing_outside_a_session_changes_nothing() -> None:
    bench = Bench()
    bench.connection.pause_writing()
    bench.connection.resume_writing()
    bench.attach()
    bench.connection.data_received(close(1000))
    bench.connection.pause_writing()
    bench.connection.resume_writing()
    assert bench.log[-1] == "client_close"


def test_a_big_list_is_sent_whole_although_the_buffer_fills(live: Bench) -> None:
    live.pipe.on_write = live.connection.pause_writing
    live.connection.carry_out([Send(bytes(4096))] * 64)
    assert len(live.pipe.frames()) == 64
    assert live.connection.open


def test_a_connection_has_no_dict() -> None:
    assert not hasattr(Connection(Bench().environment), "__dict__")
