"""How long to wait before the next try to connect: exponential backoff with full jitter.

Pure; the random source is an argument. Full jitter spreads a crowd of devices that lost the same
server over the whole interval (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog).
"""

from collections.abc import Callable
from typing import Final

BASE_S: Final = 0.5
CAP_S: Final = 60.0

Uniform = Callable[[float, float], float]
"""Gives a random number between two bounds."""


class Backoff:
    """Waits of a uniformly random length below a bound that doubles with each failure.

    Args:
        uniform: the random source.
        base_s: bound of the first wait, seconds.
        cap_s: bound of every wait, seconds.
    """

    __slots__ = ("_base_s", "_cap_s", "_failures", "_uniform")

    def __init__(self, uniform: Uniform, base_s: float = BASE_S, cap_s: float = CAP_S) -> None:
        self._uniform = uniform
        self._base_s = base_s
        self._cap_s = cap_s
        self._failures = 0

    @property
    def bound_s(self) -> float:
        """The longest that the next wait can be."""
        # A float's exponent ends at 1023; the cap is reached long before.
        return min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 64))

    def wait_s(self) -> float:
        """Count a failure, and give the seconds to wait after it."""
        bound_s = self.bound_s
        self._failures += 1
        return self._uniform(0.0, bound_s)

    def reset(self) -> None:
        """Begin anew: a connection lasted."""
        self._failures = 0
