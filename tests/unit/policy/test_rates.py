"""The bucket of one number gives what a naive token bucket gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.limits import UNLIMITED, Limit, ProjectLimits, Rate
from router.policy.rates import (
    SECOND_US,
    SLOWEST_PER_S,
    Limits,
    charge,
    effective,
    policy,
    rate,
)

START_US = 1_764_000_000_000_000
RATES = st.builds(
    Rate,
    st.floats(0.01, 100_000, allow_nan=False),
    st.floats(1, 100_000, allow_nan=False),
)
STEPS = st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 2000)), max_size=30)


@given(RATES, STEPS)
def test_a_bucket_gives_what_a_naive_one_gives(limit: Rate, steps: list[tuple[int, int]]) -> None:
    now_us, full_us, tokens = START_US, 0.0, limit.burst
    for passed_us, wanted in steps:
        now_us += passed_us
        tokens = min(limit.burst, tokens + passed_us * limit.per_s / SECOND_US)
        charged = charge(full_us, now_us, limit, wanted)
        # A double holds the time to a quarter of a microsecond, so each charge may err by as much.
        blur = 0.01 + len(steps) * limit.per_s / SECOND_US
        assert min(wanted, int(max(tokens - blur, 0))) <= charged.granted <= tokens + blur
        assert charged.granted <= wanted
        tokens -= charged.granted
        full_us = charged.full_us


@given(RATES, STEPS)
def test_no_window_gives_more_than_the_burst_and_its_rate(
    limit: Rate, steps: list[tuple[int, int]]
) -> None:
    now_us, full_us, given_out = START_US, 0.0, 0
    for passed_us, wanted in steps:
        now_us += passed_us
        charged = charge(full_us, now_us, limit, wanted)
        full_us = charged.full_us
        given_out += charged.granted
    passed_s = (now_us - START_US) / SECOND_US
    blur = 0.01 + len(steps) * limit.per_s / SECOND_US
    assert given_out <= limit.burst + passed_s * limit.per_s + blur


@given(RATES, st.integers(1, 200_000))
def test_after_the_wait_there_is_a_token(limit: Rate, wanted: int) -> None:
    charged = charge(0, START_US, limit, wanted)
    assert (charged.left == 0) == (charged.wait_us > 0) or charged.granted < int(limit.burst)
    later_us = START_US + int(charged.wait_us) + 1
    assert charge(charged.full_us, later_us, limit, 1).granted == 1


def test_a_clock_that_went_back_makes_nobody_wait_longer_than_an_empty_bucket_would() -> None:
    limit = Rate(2.0, 10.0)
    charged = charge(START_US + 3600 * SECOND_US, START_US, limit, 1)
    assert charged.granted == 0
    assert charged.wait_us == pytest.approx(SECOND_US / 2)


def test_a_burst_may_come_at_one_instant() -> None:
    full_us, limit = 0.0, Rate(3.0, 10.0)
    for _ in range(10):
        charged = charge(full_us, START_US, limit, 1)
        assert charged.granted == 1
        full_us = charged.full_us
    assert charge(full_us, START_US, limit, 1).granted == 0


def test_what_a_project_sets_goes_before_the_settings() -> None:
    defaults = Limits(sends=Rate(10.0, 20.0), device=Rate(4.0, 1000.0))
    found = effective(
        defaults,
        ProjectLimits(
            sends_per_second=100, device_sends_per_minute=0, topic_publishes_per_minute=60
        ),
    )
    assert found.sends == Rate(100.0, 200.0)
    assert found.device == UNLIMITED
    assert found.topic == Rate(1.0, 120.0)
    assert found.publishes == UNLIMITED


def test_a_bucket_has_room_for_one_token() -> None:
    assert rate(0.1, 0.2) == Rate(0.1, 1.0)


@pytest.mark.parametrize("given", [1e-300, 5e-324, 1e-9])
def test_a_rate_is_no_slower_than_one_token_a_day(given: float) -> None:
    slowest = Rate(SLOWEST_PER_S, 1.0)
    assert rate(given, given) == slowest
    assert effective(Limits(), ProjectLimits(sends_per_second=given)).sends == slowest
    assert charge(0, START_US, slowest, 1).full_us == START_US + 86_400 * SECOND_US


def test_a_policy_says_how_many_in_how_long() -> None:
    assert policy(Limit.PROJECT, Rate(5000.0, 10_000.0)) == '"project";q=10000;w=2'
    assert policy(Limit.KEY, Rate(0.1, 1.0)) == '"key";q=1;w=10'
