"""The schedule of callbacks, and what answers mean."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.callbacks import (
    JITTER,
    LAST_MS,
    SCHEDULE_S,
    Outcome,
    explain,
    next_attempt_ms,
    outcome_of,
    retry_after_ms,
)

NOW = 1_764_000_000_000
DAY = 86_400_000


def attempts(jitter: float, took_ms: int, asked_ms: int = 0) -> list[int]:
    """When the attempts of a callback are made that fails each time, in ms since it was queued."""
    times = [0]
    while again := next_attempt_ms(0, times[-1] + took_ms, asked_ms, lambda _, b: b * jitter):
        times.append(again)
    return times


def test_without_jitter_attempts_are_made_at_the_times_of_the_schedule() -> None:
    assert [round(time / 1000) for time in attempts(0.0, 0)] == list(SCHEDULE_S)


@given(
    jitter=st.floats(0, 1),
    took_ms=st.integers(0, 60_000),
    asked_ms=st.integers(0, DAY * 2),
)
def test_attempts_come_later_and_later_and_end_after_a_day(
    jitter: float, took_ms: int, asked_ms: int
) -> None:
    times = attempts(jitter, took_ms, asked_ms)
    assert 2 <= len(times) <= len(SCHEDULE_S)
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert LAST_MS <= times[-1] <= LAST_MS * (1 + JITTER) + 1


@given(
    age_ms=st.integers(0, LAST_MS - 1),
    asked_ms=st.integers(0, DAY * 400),
    draw=st.floats(0, 1),
)
def test_the_next_attempt_heeds_schedule_jitter_and_the_endpoint(
    age_ms: int, asked_ms: int, draw: float
) -> None:
    due_ms = next(delay * 1000 for delay in SCHEDULE_S if delay * 1000 > age_ms)
    again = next_attempt_ms(
        NOW, NOW + age_ms, asked_ms, lambda low, high: low + draw * (high - low)
    )
    assert again is not None
    wait_ms = again - NOW - age_ms
    assert wait_ms >= due_ms - age_ms
    assert wait_ms >= min(asked_ms, LAST_MS - age_ms)
    jittered = (due_ms - age_ms) * (1 + JITTER)
    assert wait_ms <= max(jittered, asked_ms, 1)
    assert wait_ms <= LAST_MS * (1 + JITTER)


@given(age_ms=st.integers(LAST_MS, DAY * 100), asked_ms=st.integers(0, DAY))
def test_after_a_day_it_is_given_up_whatever_the_endpoint_asks(age_ms: int, asked_ms: int) -> None:
    assert next_attempt_ms(NOW, NOW + age_ms, asked_ms, lambda _, high: high) is None


def test_what_waited_for_long_behind_others_is_not_tried_for_longer() -> None:
    late = next_attempt_ms(NOW, NOW + 80_000_000, 0, lambda low, _: low)
    assert late == NOW + LAST_MS


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (204, Outcome.DELIVERED),
        (299, Outcome.DELIVERED),
        (0, Outcome.FAILED),
        (301, Outcome.FAILED),
        (404, Outcome.FAILED),
        (410, Outcome.GONE),
        (429, Outcome.FAILED),
        (500, Outcome.FAILED),
    ],
)
def test_an_answer_means(status: int, outcome: Outcome) -> None:
    assert outcome_of(status) is outcome


def test_a_redirect_says_why_it_failed() -> None:
    assert explain(302) == "HTTP 302: redirects are not followed"
    assert explain(503) == "HTTP 503"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", 120_000),
        (" 7 ", 7_000),
        ("0", 0),
        ("99999999999999999999", LAST_MS),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("1.5", 0),
        ("٣", 0),
        ("Mon, 24 Nov 2025 16:01:00 GMT", 60_000),
        ("Mon, 24 Nov 2025 15:59:00 GMT", 0),
        ("Mon, 24 Nov 2099 16:01:00 GMT", LAST_MS),
        ("Mon, 99 Nov 2025 16:01:00 GMT", 0),
    ],
)
def test_retry_after(header: str, expected: int) -> None:
    assert retry_after_ms(header, NOW) == expected


@given(st.text(max_size=40))
def test_no_retry_after_is_too_odd(header: str) -> None:
    assert 0 <= retry_after_ms(header, NOW) <= LAST_MS
