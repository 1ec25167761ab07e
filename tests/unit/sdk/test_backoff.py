"""Backoff: bounds that double, a cap, full jitter."""

import random

from hypothesis import given
from hypothesis import strategies as st

from sdk_client.backoff import BASE_S, CAP_S, Backoff


def longest(low: float, high: float) -> float:
    return high


def test_bounds_double_up_to_the_cap() -> None:
    backoff = Backoff(longest)
    waits = [backoff.wait_s() for _ in range(10)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    backoff.reset()
    assert backoff.wait_s() == BASE_S


@given(st.integers(), st.integers(0, 2000))
def test_every_wait_lies_between_nothing_and_the_bound(seed: int, failures: int) -> None:
    backoff = Backoff(random.Random(seed).uniform)
    for _ in range(failures):
        bound_s = backoff.bound_s
        assert BASE_S <= bound_s <= CAP_S
        assert 0 <= backoff.wait_s() <= bound_s


def test_jitter_is_full() -> None:
    spread = random.Random(1)
    waits = [Backoff(spread.uniform).wait_s() for _ in range(1000)]
    assert min(waits) < 0.05 * BASE_S
    assert max(waits) > 0.95 * BASE_S
