"""How many requests an endpoint may have under way, by how soon it answers. Pure.

A worker makes so many requests at once. An endpoint that answers soon gives its place back at once,
one that takes long keeps it; so, when the places get scarce, those that take long, and those of
which nothing is known yet, are held to a part of them: what is left is for the others.
"""

from typing import Final

SLOW_S: Final = 1.0
"""An endpoint that takes longer for a request is slow."""

_Lane = tuple[str, int]


class Shares:
    """The places of one worker.

    Args:
        most: requests under way at once. Slow endpoints have half of the places, those of which
            nothing is known yet three quarters.

    Times are in seconds of any clock that only goes forward.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: dict[_Lane, float] = {}
        self._lanes: dict[str, set[int]] = {}
        self._took: dict[str, float] = {}

    def begin(self, webhook: str, lane: int, now_s: float) -> None:
        """Take it that a request begins; what its lane did before is over."""
        self._begun[(webhook, lane)] = now_s
        self._lanes.setdefault(webhook, set()).add(lane)

    def answered(self, webhook: str, lane: int, now_s: float) -> None:
        """Take it that a request is over, whatever came of it."""
        self._took[webhook] = now_s - self._begun[(webhook, lane)]
        self._begun[(webhook, lane)] = now_s

    def end(self, webhook: str, lane: int) -> None:
        """Take it that a lane is idle; its place is free."""
        del self._begun[(webhook, lane)]
        self._lanes[webhook].discard(lane)
        if not self._lanes[webhook]:
            del self._lanes[webhook]

    def forget(self, known: set[str]) -> None:
        """Forget endpoints other than these."""
        for webhook in self._took.keys() - known:
            del self._took[webhook]

    def admits(self, webhook: str, now_s: float) -> bool:
        """Tell whether another lane of an endpoint may begin."""
        taken, most = len(self._begun), self._most
        if taken < most // 2:
            return True
        if self.is_slow(webhook, now_s):
            return False
        if webhook not in self._took:
            return taken < most * 3 // 4 and webhook not in self._lanes
        return taken < most

    def yields(self, webhook: str, now_s: float) -> bool:
        """Tell whether a lane is to give its place to others between two requests."""
        return len(self._begun) >= self._most // 2 and self.is_slow(webhook, now_s)

    def is_slow(self, webhook: str, now_s: float) -> bool:
        """Tell whether an endpoint took long of late, or takes long now."""
        if self._took.get(webhook, 0.0) >= SLOW_S:
            return True
        lanes = self._lanes.get(webhook, ())
        return any(now_s - self._begun[(webhook, lane)] >= SLOW_S for lane in lanes)
