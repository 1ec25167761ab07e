"""How many frames a device may send."""

from hypothesis import given
from hypothesis import strategies as st

from router.model.errors import CloseCode
from tests.conformance.wire import PING, frame
from tests.unit.shard.pipe import START_MS, Bench

FRAMES = (10.0, 100.0)
"""A frame in 10 ms, ten at once."""


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 12)), max_size=40))
def test_frames_are_paced_as_a_token_bucket_would(steps: list[tuple[int, int]]) -> None:
    environment = Bench(frames=FRAMES).environment
    now_ms, until_ms, tokens = START_MS, 0.0, 10.0
    for passed_ms, frames in steps:
        now_ms += passed_ms
        tokens = min(10.0, tokens + passed_ms / FRAMES[0])
        reach_ms = environment.pace(until_ms, now_ms, frames)
        assert (reach_ms >= 0) == (tokens >= frames - 1e-6)
        if reach_ms >= 0:
            until_ms = reach_ms
            tokens -= frames


def test_without_a_limit_nothing_is_kept() -> None:
    assert Bench().environment.pace(0, START_MS, 1_000_000) == 0


def test_a_clock_that_was_set_back_does_not_close_a_session_for_long() -> None:
    environment = Bench(frames=FRAMES).environment
    assert environment.pace(START_MS + 3_600_000, START_MS, 1) == -1
    assert environment.pace(START_MS + 90, START_MS, 1) == START_MS + 100


def test_a_device_that_floods_is_closed_with_a_reason() -> None:
    bench = Bench(frames=FRAMES).attach()
    bench.connection.data_received(frame(PING, b"") * 5)
    assert bench.close_codes() == []
    bench.connection.data_received(frame(PING, b"") * 6)
    assert bench.close_codes() == [CloseCode.POLICY]
    assert bench.refusals == ["frames"]
    assert bench.log[-1] == "policy"


def test_a_device_that_keeps_its_pace_stays() -> None:
    bench = Bench(frames=FRAMES).attach()
    for _ in range(50):
        bench.pass_time(100)
        bench.connection.data_received(frame(PING, b"") * 10)
    assert bench.connection.open
