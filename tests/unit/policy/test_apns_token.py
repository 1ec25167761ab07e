"""Tokens of APNs: one grid for all, and none that Apple would find too new or too old."""

from hypothesis import given
from hypothesis import strategies as st

from router.policy.apns_token import TOKEN_S, token_times

MINUTE_MS = 60_000
times = st.integers(1_800_000_000_000, 1_800_100_000_000)


@given(times)
def test_a_token_is_used_for_20_minutes_at_least_and_ends_within_the_hour(now_ms: int) -> None:
    made = token_times(now_ms)
    assert now_ms - made.issued_s * 1000 >= MINUTE_MS
    assert made.renew_ms - now_ms >= 20 * MINUTE_MS
    assert made.next_ms <= made.renew_ms < made.ends_ms
    assert made.ends_ms == made.issued_s * 1000 + 60 * MINUTE_MS


@given(times, st.integers(0, TOKEN_S * 1000))
def test_all_make_the_same_until_the_next_can_be_made(now_ms: int, later_ms: int) -> None:
    made, other = token_times(now_ms), token_times(now_ms + later_ms)
    assert (made.issued_s == other.issued_s) is (now_ms + later_ms < made.next_ms)
