"""A connection whose transport's buffer is full: what is kept, what is dropped, when it ends."""

import pytest

from gateway.shard.congestion import MAX_OVERRUN
from gateway.shard.events import Detach, Send
from tests.conformance.wire import PING, PONG, TEXT, close, frame
from tests.unit.shard.pipe import Bench


@pytest.fixture
def live() -> Bench:
    return Bench().attach()


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
    assert live.close_codes() == [4004]
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
