"""Whose fault bad addresses are: the devices', or the credentials'. Pure; times in milliseconds.

One device may have registered nonsense. Where nearly all that a provider says of late is that
addresses are bad, the credentials are those of another app or environment, and no address may be
taken from anybody for it.
"""

from typing import Final

BULK: Final = 10
"""So many addresses, each another one,"""
SHARE: Final = 4
"""and so many times as many as were good,"""
WINDOW_MS: Final = 600_000
"""in such a time: the credentials are wrong."""


class Suspicion:
    """What was heard of the addresses of one audience."""

    __slots__ = ("_bad", "_good", "_since_ms")

    def __init__(self) -> None:
        self._bad: set[int] = set()
        self._good = 0
        self._since_ms = 0

    def good(self, now_ms: int) -> None:
        """Take it that an address belongs to the credentials, though it may be dead by now."""
        self._turn(now_ms)
        self._good += 1

    def bad(self, address: str, now_ms: int) -> bool:
        """Take it that an address is bad; whether it is the credentials that are wrong."""
        self._turn(now_ms)
        if len(self._bad) < BULK:
            self._bad.add(hash(address))
        return len(self._bad) >= BULK and self._good * SHARE < BULK

    def _turn(self, now_ms: int) -> None:
        if not 0 <= now_ms - self._since_ms < WINDOW_MS:
            self._bad, self._good, self._since_ms = set(), 0, now_ms
