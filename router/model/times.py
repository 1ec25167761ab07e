"""Times as text."""

from datetime import UTC, datetime


class Times:
    """Writes times in RFC 3339; events come in clusters, so the second is remembered."""

    def __init__(self) -> None:
        self._second = -1
        self._written = ""

    def of(self, time_ms: int) -> str:
        """Write epoch milliseconds: `2030-01-31T08:00:00.123Z`."""
        second, milliseconds = divmod(time_ms, 1000)
        if second != self._second:
            self._written = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
            self._second = second
        return f"{self._written}.{milliseconds:03d}Z"
