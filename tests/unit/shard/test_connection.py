"""A connection from accept to its end, in memory; on real sockets: tests/conformance."""

import pytest

from gateway.shard.connection import Connection
from gateway.shard.events import Acked, Attach, Close, Detach, Send
from router.model.errors import CloseCode
from router.model.ids import MessageId
from router.model.mailbox import Ack
from tests.conformance.door import CONNECT
from tests.conformance.wire import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    close,
    frame,
    opening_request,
)
from tests.unit.shard.pipe import Bench


@pytest.fixture
def live() -> Bench:
    return Bench().attach()


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
    assert live.close_codes() == [1007]
    assert live.pipe.ends == ["eof"]
    assert live.log == [Detach(), "invalid_payload"]


def test_a_violation_after_our_close_ends_the_stream(live: Bench) -> None:
    live.connection.carry_out([Close(CloseCode.POLICY, "x")])
    live.connection.data_received(frame(11))
    assert live.close_codes() == [1008]
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
    assert bench.close_codes() == [4008]
    assert bench.log == ["opened", "connect_timeout"]


def test_signs_of_life_keep_an_idle_device(live: Bench) -> None:
    for data in (frame(PING), frame(PONG), frame(TEXT, b'{"op":"ping"}')) * 3:
        live.pass_time(300_000)
        live.connection.data_received(data)
    assert live.log == []
    live.pipe.writes.clear()
    live.pass_time(400_000)
    assert not live.connection.open
    assert len(live.close_codes()) == 1


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


def test_a_connection_has_no_dict() -> None:
    assert not hasattr(Connection(Bench().environment), "__dict__")
