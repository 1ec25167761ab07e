"""When a push is tried again: backoff, the provider's wish, the end of the message."""

import pytest

from router.policy.push_retry import ATTEMPTS, NOW_OR_NEVER_MS, ends_ms, next_try_ms

FAR_MS = 10**12


def most(low: float, high: float) -> float:
    return high


def least(low: float, high: float) -> float:
    return low


def test_waits_double_with_full_jitter() -> None:
    longest = [next_try_ms(tried, 0.0, 0, FAR_MS, most) for tried in range(1, ATTEMPTS)]
    assert longest == [4_000, 8_000, 16_000, 32_000]
    assert [next_try_ms(tried, 0.0, 0, FAR_MS, least) for tried in range(1, ATTEMPTS)] == [1] * 4


def test_the_last_attempt_is_followed_by_none() -> None:
    assert next_try_ms(ATTEMPTS, 0.0, 0, FAR_MS, least) is None


def test_a_try_that_does_not_count_is_followed_by_one_as_after_the_first() -> None:
    assert next_try_ms(0, 0.0, 0, FAR_MS, most) == 4_000


def test_what_the_provider_asks_for_is_heeded_where_it_is_longer() -> None:
    assert next_try_ms(1, 60.0, 1_000, FAR_MS, most) == 61_000
    assert next_try_ms(1, 1.0, 1_000, FAR_MS, most) == 5_000


@pytest.mark.parametrize(("last_ms", "again"), [(4_001, 4_000), (4_000, None)])
def test_no_try_comes_after_the_end_of_the_message(last_ms: int, again: int | None) -> None:
    assert next_try_ms(1, 0.0, 0, last_ms, most) == again


def test_now_or_never_lasts_a_moment() -> None:
    assert ends_ms(1_000, 1_000) == 1_000 + NOW_OR_NEVER_MS
    assert ends_ms(1_000, 2_000) == 2_000
