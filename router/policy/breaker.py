"""A circuit breaker: whether to ask a provider that has been failing. Pure.

Closed, all requests go. It opens when a provider fails often, or says itself how long to wait;
then none go for a while, twice as long after each failure in a row. After that it is half open: a
few go, and what comes of them closes it or opens it again. Times are in milliseconds of any clock.
"""

import enum
from typing import Final

from router.policy.retry import Backoff, Uniform

IN_A_ROW: Final = 5
"""So many failures without an answer between them open it,"""
ENOUGH: Final = 20
"""or, of so many requests in a window at least,"""
SHARE: Final = 0.5
"""this share of failures."""
WINDOW_MS: Final = 10_000
PROBES: Final = 3
"""Requests that may be under way while it is half open; as many successes close it."""
WAIT: Final = Backoff(base_s=1.0, cap_s=60.0)
"""How long it stays open: half to all of the ceiling, so that workers do not come back in step."""


class State(enum.Enum):
    """Whether requests go."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """One provider, for one project's credentials.

    `begin` before each request, and then one of `succeeded`, `failed` and `gave_up`.
    """

    __slots__ = (
        "_begun",
        "_failed",
        "_half",
        "_opened",
        "_row",
        "_total",
        "_until_ms",
        "_well",
        "_window_ms",
    )

    def __init__(self) -> None:
        self._until_ms = 0
        self._half = False
        self._opened = 0
        """How often in a row it opened."""
        self._begun = 0
        """Requests under way that began while it was half open."""
        self._well = 0
        """Successes since it was half open."""
        self._row = 0
        self._failed = self._total = 0
        self._window_ms = 0

    def state(self, now_ms: int) -> State:
        """Tell how it stands."""
        if now_ms < self._until_ms:
            return State.OPEN
        return State.HALF_OPEN if self._half else State.CLOSED

    def room(self, now_ms: int) -> int | None:
        """Tell how many requests may begin; None for any number."""
        state = self.state(now_ms)
        if state is State.CLOSED:
            return None
        return 0 if state is State.OPEN else max(0, PROBES - self._begun)

    def wait_ms(self, now_ms: int) -> int:
        """Tell how long it stays open; 0 where it is not."""
        return max(0, self._until_ms - now_ms)

    def begin(self, now_ms: int) -> bool:
        """Take it that a request begins; whether it is a probe."""
        if self.state(now_ms) is not State.HALF_OPEN:
            return False
        self._begun += 1
        return True

    def succeeded(self, *, probe: bool) -> None:
        """Take it that the provider answered, whatever it said of the push."""
        self._row = 0
        self._total += 1
        if not probe:
            return
        self._begun = max(0, self._begun - 1)
        self._well += 1
        if self._half and self._well >= PROBES:
            self._half, self._opened, self._failed, self._total = False, 0, 0, 0

    def gave_up(self, *, probe: bool) -> None:
        """Take it that nothing can be said of the provider: the request was not made."""
        if probe:
            self._begun = max(0, self._begun - 1)

    def failed(self, now_ms: int, after_ms: int, uniform: Uniform, *, probe: bool) -> bool:
        """Take it that the provider failed; whether that opened it.

        Args:
            now_ms: the clock.
            after_ms: how long the provider wants to be left alone; 0 where it did not say.
            uniform: draws the jitter.
            probe: as `begin` gave it.
        """
        self.gave_up(probe=probe)
        if now_ms - self._window_ms >= WINDOW_MS:
            self._window_ms, self._failed, self._total = now_ms, 0, 0
        self._failed += 1
        self._total += 1
        self._row += 1
        if now_ms < self._until_ms or (self._half and not probe):
            # It began before the breaker opened: it says nothing new but how long to wait.
            self._until_ms = max(self._until_ms, now_ms + after_ms)
            return False
        often = self._total >= ENOUGH and self._failed >= SHARE * self._total
        if not (after_ms or self._half or often or self._row >= IN_A_ROW):
            return False
        self._opened += 1
        ceiling_s = WAIT.ceiling_s(self._opened)
        wait_ms = int(uniform(ceiling_s / 2, ceiling_s) * 1000)
        self._until_ms = now_ms + max(wait_ms, after_ms)
        self._half, self._well, self._begun, self._row = True, 0, 0, 0
        return True
