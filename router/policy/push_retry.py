"""When a push that did not reach its provider is tried again. Pure; times in epoch milliseconds."""

from typing import Final

from router.policy.retry import Backoff, Uniform

ATTEMPTS: Final = 5
"""So often a push is tried."""
BACKOFF: Final = Backoff(base_s=4.0, cap_s=300.0)
"""Full jitter: the second attempt comes within 4 s, the last within half a minute of the fourth."""
NOW_OR_NEVER_MS: Final = 15_000
"""So long a message with a TTL of 0 is tried, from when it was accepted."""


def ends_ms(sent_ms: int, expires_ms: int) -> int:
    """Give the time from which a message is of no use to anybody."""
    return sent_ms + NOW_OR_NEVER_MS if expires_ms <= sent_ms else expires_ms


def next_try_ms(
    attempts: int, asked_s: float, now_ms: int, last_ms: int, uniform: Uniform
) -> int | None:
    """Give when a push is tried again; None where it is given up.

    Args:
        attempts: how often it was tried; 0 where none of the tries counts.
        asked_s: how long the provider asked us to wait, in seconds; 0 where it did not.
        now_ms: when the last try failed.
        last_ms: from then on it is of no use.
        uniform: draws the jitter.
    """
    if attempts >= ATTEMPTS:
        return None
    wait_s = max(BACKOFF.delay_s(max(attempts, 1), uniform), asked_s)
    again_ms = now_ms + max(1, int(wait_s * 1000))
    return again_ms if again_ms < last_ms else None
