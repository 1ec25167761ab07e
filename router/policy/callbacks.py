"""When a callback is tried again, and what an answer means.

Source: Standard Webhooks, "Deliverability and reliability": its example of a schedule. The delays
count from when the callback was queued, so what waited behind others is not tried for longer.
"""

import enum
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

SCHEDULE_S: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""When each attempt is due, in seconds since the callback was queued."""
LAST_MS: Final = SCHEDULE_S[-1] * 1000
JITTER: Final = 0.1
"""The most that is added to a delay, as a share of it."""
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_GONE: Final = 410
_MAX_DIGITS: Final = 9

Uniform = Callable[[float, float], float]


class Outcome(enum.StrEnum):
    """What an answer means for its callback."""

    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"


def outcome_of(status: int) -> Outcome:
    """Read an HTTP status; 0 stands for no answer."""
    if status in _OK:
        return Outcome.DELIVERED
    return Outcome.GONE if status == _GONE else Outcome.FAILED


def explain(status: int) -> str:
    """Say why an answer counts as a failure."""
    if status in _REDIRECTS:
        return f"HTTP {status}: redirects are not followed"
    return f"HTTP {status}"


def next_attempt_ms(
    created_ms: int, now_ms: int, retry_after_ms: int, uniform: Uniform
) -> int | None:
    """Give when a callback that failed now is tried again; None where it is given up.

    Args:
        created_ms: when it was queued.
        now_ms: when it failed.
        retry_after_ms: how long the endpoint asked us to wait; 0 where it did not.
        uniform: draws the jitter.
    """
    age_ms = now_ms - created_ms
    if age_ms >= LAST_MS:
        return None
    due_s = next(delay for delay in SCHEDULE_S[1:] if delay * 1000 > age_ms)
    wait_ms = due_s * 1000 - age_ms
    jittered = wait_ms * (1 + uniform(0.0, JITTER))
    asked = min(retry_after_ms, LAST_MS - age_ms)
    return now_ms + max(int(jittered), asked, 1)


def retry_after_ms(header: str, now_ms: int) -> int:
    """Read Retry-After, seconds or an HTTP date (RFC 9110, section 10.2.3); 0 for none or nonsense.

    What is longer than the schedule counts as its whole length.
    """
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) <= _MAX_DIGITS else LAST_MS
        return min(seconds * 1000, LAST_MS)
    try:
        at_s = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0
    return min(max(0, int(at_s * 1000) - now_ms), LAST_MS)
