"""How much an API process takes on."""

import pytest

from gateway.api.admission import FEW, INTERVAL_S, LEAST, MOST, RETRY_S, Gate, weight_of

WAIT_S = 0.1


def work(gate: Gate, requests: int, *, took_s: float, begin_s: float) -> float:
    """Carry out requests one after another over an interval; gives the time afterwards."""
    now_s = begin_s
    for _ in range(requests):
        gate.enter(1, now_s)
        now_s += 1.01 * INTERVAL_S / requests
        gate.leave(1, now_s, took_s)
    return now_s


def test_it_is_open_until_something_took_too_long() -> None:
    gate = Gate(WAIT_S)
    gate.enter(1, 0.0)
    work(gate, 500, took_s=WAIT_S / 2, begin_s=0.0)
    assert gate.limit == MOST
    assert not gate.closed


def test_where_requests_take_too_long_it_lets_in_what_gets_done_within_the_wait() -> None:
    gate = Gate(WAIT_S)
    gate.enter(1, 0.0)
    work(gate, 500, took_s=2 * WAIT_S, begin_s=0.0)
    rate_per_s = 500 / (1.01 * INTERVAL_S)
    assert gate.limit == pytest.approx(rate_per_s * WAIT_S, rel=0.01)
    assert gate.mean_s == pytest.approx(2 * WAIT_S)
    for _ in range(FEW):
        gate.enter(100, 1.0)
    assert gate.closed


def test_it_never_lets_in_less_than_the_least() -> None:
    gate = Gate(WAIT_S)
    gate.enter(1, 0.0)
    work(gate, 2, took_s=10.0, begin_s=0.0)
    assert gate.limit == LEAST


def test_a_few_requests_may_always_be_under_way_however_large() -> None:
    gate = Gate(WAIT_S)
    for _ in range(FEW - 1):
        gate.enter(MOST, 0.0)
    assert not gate.closed
    gate.enter(1, 0.0)
    assert gate.closed


def test_it_opens_again_once_nothing_waits() -> None:
    gate = Gate(WAIT_S)
    gate.enter(1, 0.0)
    now_s = work(gate, 2, took_s=10.0, begin_s=0.0)
    for _ in range(40):
        now_s = work(gate, 20, took_s=0.001, begin_s=now_s)
    assert gate.limit == MOST


def test_a_late_event_loop_counts_as_a_wait() -> None:
    gate = Gate(WAIT_S)
    for _ in range(50):
        gate.late(3 * WAIT_S)
    gate.enter(1, 0.0)
    work(gate, 200, took_s=0.001, begin_s=0.0)
    assert gate.limit < MOST


def test_a_pause_before_a_burst_says_nothing_of_the_rate() -> None:
    gate = Gate(WAIT_S)
    work(gate, 10, took_s=0.001, begin_s=0.0)
    gate.enter(500, 1000.0)
    gate.leave(500, 1000.0 + INTERVAL_S, 2 * WAIT_S)
    assert gate.limit == pytest.approx(500 * WAIT_S / INTERVAL_S)


def test_what_says_nothing_of_others_does_not_count() -> None:
    gate = Gate(WAIT_S)
    gate.enter(1, 0.0)
    gate.leave(1, 60.0, None)
    assert gate.limit == MOST


def test_without_a_wait_it_is_never_closed() -> None:
    gate = Gate(0.0)
    gate.enter(10 * MOST, 0.0)
    assert not gate.closed


def test_those_that_are_refused_are_told_different_times() -> None:
    gate = Gate(WAIT_S)
    assert [gate.retry_s() for _ in RETRY_S] == list(RETRY_S)
    assert min(RETRY_S) >= 1


def test_a_large_body_weighs_more() -> None:
    assert weight_of(0) == 1
    assert weight_of(50_000) > 50
