"""The circuit breaker: when it opens, what it lets through, how it closes."""

import pytest

from router.policy.breaker import ENOUGH, IN_A_ROW, PROBES, WAIT, WINDOW_MS, Breaker, State


def least(low: float, high: float) -> float:
    return low


def most(low: float, high: float) -> float:
    return high


def fail(breaker: Breaker, now_ms: int, after_ms: int = 0) -> bool:
    probe = breaker.begin(now_ms)
    return breaker.failed(now_ms, after_ms, most, probe=probe)


def succeed(breaker: Breaker, now_ms: int) -> None:
    breaker.succeeded(probe=breaker.begin(now_ms))


def opened(now_ms: int = 0) -> Breaker:
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        fail(breaker, now_ms)
    return breaker


def test_all_go_until_it_opens() -> None:
    breaker = Breaker()
    assert breaker.state(0) is State.CLOSED
    assert breaker.room(0) is None
    assert breaker.wait_ms(0) == 0


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    assert [fail(breaker, 0) for _ in range(IN_A_ROW)] == [False] * (IN_A_ROW - 1) + [True]
    assert breaker.state(0) is State.OPEN
    assert breaker.room(0) == 0
    assert breaker.wait_ms(0) == 1000


def test_an_answer_between_failures_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(ENOUGH // 2 - 1):
        fail(breaker, 0)
        succeed(breaker, 0)
        succeed(breaker, 0)
    assert breaker.state(0) is State.CLOSED


def test_a_large_share_of_failures_opens_it_though_some_succeed() -> None:
    breaker = Breaker()
    for _ in range(ENOUGH // 2):
        succeed(breaker, 0)
        fail(breaker, 0)
    assert breaker.state(0) is State.OPEN


def test_failures_of_an_older_window_do_not_count() -> None:
    breaker = Breaker()
    for _ in range(ENOUGH // 2 - 1):
        succeed(breaker, 0)
        fail(breaker, 0)
    succeed(breaker, WINDOW_MS)
    assert not fail(breaker, WINDOW_MS)
    assert breaker.state(WINDOW_MS) is State.CLOSED


def test_a_provider_that_names_a_time_is_left_alone_until_then() -> None:
    breaker = Breaker()
    assert fail(breaker, 5000, after_ms=60_000)
    assert breaker.wait_ms(5000) == 60_000
    assert breaker.state(64_999) is State.OPEN
    assert breaker.state(65_000) is State.HALF_OPEN


def test_a_later_answer_of_a_request_from_before_only_makes_the_wait_longer() -> None:
    breaker = opened()
    assert not breaker.failed(10, 0, most, probe=False)
    assert breaker.wait_ms(10) == 990
    assert not breaker.failed(10, 5000, most, probe=False)
    assert breaker.wait_ms(10) == 5000
    breaker = opened()
    assert not breaker.failed(1000, 0, most, probe=False)
    assert breaker.state(1000) is State.HALF_OPEN


def test_half_open_lets_a_few_through() -> None:
    breaker = opened()
    assert breaker.room(1000) == PROBES
    assert [breaker.begin(1000) for _ in range(PROBES)] == [True] * PROBES
    assert breaker.room(1000) == 0
    breaker.gave_up(probe=True)
    assert breaker.room(1000) == 1


def test_successes_of_probes_close_it() -> None:
    breaker = opened()
    for _ in range(PROBES - 1):
        succeed(breaker, 1000)
        assert breaker.state(1000) is State.HALF_OPEN
    succeed(breaker, 1000)
    assert breaker.state(1000) is State.CLOSED
    assert not fail(breaker, 1000)


def test_each_failed_probe_doubles_the_wait_up_to_the_cap() -> None:
    breaker, now_ms, waits = opened(), 0, []
    for _ in range(8):
        waits.append(breaker.wait_ms(now_ms))
        now_ms += waits[-1]
        assert fail(breaker, now_ms)
    assert waits[:4] == [1000, 2000, 4000, 8000]
    assert waits[-1] == WAIT.cap_s * 1000


def test_other_probes_that_fail_do_not_double_it_again() -> None:
    breaker = opened()
    probes = [breaker.begin(1000) for _ in range(PROBES)]
    opens = [breaker.failed(1000, 0, most, probe=probe) for probe in probes]
    assert opens == [True] + [False] * (PROBES - 1)
    assert breaker.wait_ms(1000) == 2000


@pytest.mark.parametrize(("uniform", "wait_ms"), [(least, 500), (most, 1000)])
def test_the_wait_is_half_to_all_of_its_ceiling(uniform: object, wait_ms: int) -> None:
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        breaker.failed(0, 0, uniform, probe=False)  # type: ignore[arg-type]
    assert breaker.wait_ms(0) == wait_ms
