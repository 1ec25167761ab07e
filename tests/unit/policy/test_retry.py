"""Waits: bounded, growing, and never in step."""

import random

from hypothesis import given
from hypothesis import strategies as st

from router.policy.retry import Backoff, Poll

_backoffs = st.builds(Backoff, st.floats(0.001, 10), st.floats(10, 3600))


@given(_backoffs, st.integers(-1, 10_000), st.randoms(use_true_random=False))
def test_a_wait_stays_under_its_ceiling(
    backoff: Backoff, failures: int, source: random.Random
) -> None:
    delay = backoff.delay_s(failures, source.uniform)
    assert 0 <= delay <= backoff.ceiling_s(failures) <= backoff.cap_s


@given(_backoffs, st.integers(1, 1000))
def test_the_ceiling_never_falls(backoff: Backoff, failures: int) -> None:
    assert backoff.ceiling_s(failures) <= backoff.ceiling_s(failures + 1)


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base_s=1, cap_s=5)
    assert [backoff.ceiling_s(failures) for failures in range(5)] == [0, 1, 2, 4, 5]


def test_a_poll_comes_back_at_once_after_a_find() -> None:
    assert Poll().next_s(0.2, found=True) == 0


@given(st.lists(st.booleans()))
def test_an_idle_poll_stays_within_its_bounds(finds: list[bool]) -> None:
    poll = Poll()
    wait = 0.0
    for found in finds:
        last, wait = wait, poll.next_s(wait, found=found)
        assert wait == 0 if found else poll.least_s <= wait <= poll.most_s
        assert found or wait >= last
