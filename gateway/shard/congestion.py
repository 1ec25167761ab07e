"""What is kept of a connection while its transport's buffer is full. Pure."""

from typing import Final

HIGH_WATER: Final = 65_536
"""Bytes in a transport's buffer at which the session pauses."""
LOW_WATER: Final = 16_384
MAX_OVERRUN: Final = 65_536
"""Bytes of answers that may be added to a full buffer before the device counts as slow."""


class Congestion:
    """A buffer that is full."""

    __slots__ = ("_overrun", "pong")

    def __init__(self) -> None:
        self._overrun = 0
        self.pong: bytes | None = None
        """RFC 6455 5.5.3: only the most recent ping needs an answer."""

    def overruns(self, size: int) -> bool:
        """Take it that so many bytes were added; True where that is too much."""
        self._overrun += size
        return self._overrun > MAX_OVERRUN
