"""An event loop in virtual time: one heap of what happens next, and no waiting."""

import asyncio
from typing import Any

from typing_extensions import override

_MAX_ROUNDS = 20_000
"""Rounds of the loop within one instant, after which something spins."""


class StandstillError(RuntimeError):
    """Nothing is left to happen, or something happens without end in one instant."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their times; the clock jumps from one to the next.

    Nothing here depends on the machine's clock, so a run is a function of its seed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._rounds = 0
        self._selector = self

    @override
    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Stand in for the selector: where the loop would sleep, time passes at once."""
        if timeout is None:
            raise StandstillError("nothing is left to happen")
        if timeout > 0:
            self._now += timeout
            self._rounds = 0
        else:
            self._rounds += 1
            if self._rounds > _MAX_ROUNDS:
                raise StandstillError(f"something spins at {self._now:.3f}")
        return []

    def _process_events(self, events: list[Any]) -> None:
        """There is no I/O."""

    def _write_to_self(self) -> None:
        """There are no other threads."""
