"""How much an API process takes on at once: what it gets done within a short wait. Pure.

What is under way and how fast it gets done say how long the next request would wait (Little's law).
Where requests waited too long, so much less is let in that the wait becomes what it should be. The
rest is refused at the door, where a refusal costs a tenth of the work.
"""

import itertools
from typing import Final

UNIT_BYTES: Final = 512
"""A request weighs one for each so many bytes of its body: about a message of a batch."""
LEAST: Final = 128
"""So much may always be under way: a process that was idle has no rate to go by."""
FEW: Final = 8
"""So many requests may, whatever they weigh: an app server that sends large batches, a few at once,
waits for its own work alone.
"""
MOST: Final = 10_000
"""More may never be under way: as many commands wait for the store."""
INTERVAL_S: Final = 0.1
_GROWTH: Final = 1.25
"""So much more is let in with each interval in which nothing waited too long."""
_SMOOTH: Final = 0.3
"""How much the last look at the event loop counts against those before it."""
RETRY_S: Final = (1, 2, 3, 4)
"""Who is refused is told one of these in turn, as all at once would be refused again."""


class Gate:
    """Counts what is under way in one process, and tells whether there is room.

    Args:
        wait_s: how long requests may take on average; 0: as long as they do.
        few: so many may always be under way.
    """

    __slots__ = (
        "_done",
        "_few",
        "_inside",
        "_late_s",
        "_retries",
        "_since_s",
        "_waited",
        "limit",
        "load",
        "mean_s",
        "wait_s",
    )

    def __init__(self, wait_s: float, few: int = FEW) -> None:
        self.wait_s = wait_s
        self._since_s = 0.0
        self._done = 0
        self._waited = 0.0
        self._late_s = 0.0
        self._few = few
        self._inside = 0
        self._retries = itertools.cycle(RETRY_S)
        self.load = 0
        """What is under way."""
        self.limit = float(MOST)
        """What may be."""
        self.mean_s = 0.0
        """How long a unit of work took, on average, in the last interval, until it was read too."""

    @property
    def closed(self) -> bool:
        """Whether the next request is to be refused."""
        return self.load >= self.limit and self._inside >= self._few and self.wait_s > 0

    def retry_s(self) -> int:
        """Give the seconds after which the next one that is refused may try again."""
        return next(self._retries)

    def late(self, late_s: float) -> None:
        """Take it that the event loop was so late: as long requests waited to be read."""
        self._late_s += (late_s - self._late_s) * _SMOOTH

    def enter(self, weight: int, now_s: float) -> None:
        """Take a request in."""
        if not self.load:
            self._begin(now_s)
        self.load += weight
        self._inside += 1

    def leave(self, weight: int, now_s: float, waited_s: float | None) -> bool:
        """Let a request out.

        Args:
            weight: as at `enter`.
            now_s: the time, in seconds that never go back.
            waited_s: how long it took; None where that says nothing about others.

        Returns:
            Whether an interval ended: `limit` and `mean_s` are new.
        """
        self.load -= weight
        self._inside -= 1
        if waited_s is not None:
            self._done += weight
            self._waited += weight * waited_s
        elapsed_s = now_s - self._since_s
        if elapsed_s < INTERVAL_S:
            return False
        self.mean_s = self._late_s + (self._waited / self._done if self._done else 0.0)
        if self.mean_s > self.wait_s:
            self.limit = max(LEAST, min(self.limit, self.wait_s * self._done / elapsed_s))
        else:
            self.limit = min(MOST, self.limit * _GROWTH)
        self._begin(now_s)
        return True

    def _begin(self, now_s: float) -> None:
        self._since_s = now_s
        self._done = 0
        self._waited = 0.0


def weight_of(body_bytes: int) -> int:
    """Give what a request with such a body weighs."""
    return 1 + body_bytes // UNIT_BYTES
