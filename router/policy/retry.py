"""How long to wait before another try: full jitter, so that peers do not come back in step.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog: full jitter does the least work.
"""

from collections.abc import Callable

import msgspec

Uniform = Callable[[float, float], float]
"""Draws a number between two bounds (`Entropy.uniform` of the process)."""


class Backoff(msgspec.Struct, frozen=True, gc=False):
    """Bounds of a wait that doubles with each failure; seconds."""

    base_s: float = 0.1
    cap_s: float = 10.0

    def ceiling_s(self, failures: int) -> float:
        """Give the longest wait after this many failures in a row (1 for the first)."""
        if failures < 1:
            return 0.0
        # 2 ** 62 is past every cap, and far from what a float cannot hold.
        return min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 62))

    def delay_s(self, failures: int, uniform: Uniform) -> float:
        """Draw the wait after this many failures in a row: from nothing to the ceiling."""
        return uniform(0.0, self.ceiling_s(failures))


class Poll(msgspec.Struct, frozen=True, gc=False):
    """Bounds of a poll that slows down while it finds nothing; seconds."""

    least_s: float = 0.1
    most_s: float = 0.25
    growth: float = 1.25

    def next_s(self, last_s: float, *, found: bool) -> float:
        """Give the next wait: none after a find, then from the least to the most."""
        if found:
            return 0.0
        return min(self.most_s, max(self.least_s, last_s * self.growth))
