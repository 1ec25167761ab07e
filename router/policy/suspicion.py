"""Whose fault bad addresses are: the devices', or the credentials'. Pure; times in milliseconds.

One device may have registered nonsense. Where nearly all that a provider says of late is that
addresses are bad, the credentials are those of another app or environment, and no address may be
taken from anybody for it.

Anybody who has an app can register nonsense in bulk, so it does not suffice to stop pushing:
credentials over which a good push went, or that are not new, are not wrong.
"""

import enum
from typing import Final

BULK: Final = 10
"""So many addresses, each another one,"""
SHARE: Final = 4
"""and so many times as many as were good,"""
WINDOW_MS: Final = 600_000
"""in such a time: the credentials are wrong."""
NEW_MS: Final = 86_400_000
"""Credentials that were given longer ago are not found wrong by addresses."""


class Fault(enum.Enum):
    """Whose fault a bad address is."""

    DEVICE = "device"
    """It may be taken from its device."""
    UNKNOWN = "unknown"
    """So many are bad that it stays."""
    CREDENTIALS = "credentials"


class Suspicion:
    """What was heard of the addresses of one audience."""

    __slots__ = ("_bad", "_good", "_proven", "_since_ms")

    def __init__(self) -> None:
        self._bad: set[int] = set()
        self._good = 0
        self._since_ms = 0
        self._proven = False

    def good(self, now_ms: int) -> None:
        """Take it that an address belongs to the credentials, though it may be dead by now."""
        self._turn(now_ms)
        self._good += 1
        self._proven = True

    def bad(self, address: str, now_ms: int, given_ms: int) -> Fault:
        """Take it that an address is bad.

        Args:
            address: which one.
            now_ms: the clock.
            given_ms: when the credentials were given.
        """
        self._turn(now_ms)
        if len(self._bad) < BULK:
            self._bad.add(hash(address))
        if len(self._bad) < BULK or self._good * SHARE >= BULK:
            return Fault.DEVICE
        if self._proven or now_ms - given_ms >= NEW_MS:
            return Fault.UNKNOWN
        return Fault.CREDENTIALS

    def _turn(self, now_ms: int) -> None:
        if not self._proven and self._bad:
            return  # until something is known to be good, what was bad is remembered
        if not 0 <= now_ms - self._since_ms < WINDOW_MS:
            self._bad, self._good, self._since_ms = set(), 0, now_ms
