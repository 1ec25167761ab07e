"""Epoch milliseconds as RFC 3339 times."""

from datetime import UTC, datetime


def rfc3339(time_ms: int) -> datetime:
    """Give a time in UTC, which msgspec writes as `2030-01-31T08:00:00.123000Z`."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=milliseconds * 1000)


def rfc3339_or_none(time_ms: int) -> datetime | None:
    """Give a time, None for 0, which stands for never."""
    return rfc3339(time_ms) if time_ms else None
