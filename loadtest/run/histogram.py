"""Latencies in an HdrHistogram: three significant digits from a microsecond to an hour.

A recording costs 0.9 µs, an interval of half a second that is handed to another process 0.8 ms.
"""

import math
from collections.abc import Callable
from typing import Final, Protocol

from hdrh.histogram import HdrHistogram

MAX_US: Final = 3_600_000_000
_DIGITS: Final = 3


class _Recorder(Protocol):
    """What is used of the package's class, which has no types."""

    def record_value(self, value: int, /) -> bool: ...
    def get_value_at_percentile(self, percentile: float, /) -> int: ...
    def get_total_count(self) -> int: ...
    def get_max_value(self) -> int: ...
    def get_mean_value(self) -> float: ...
    def encode(self) -> bytes: ...
    def decode_and_add(self, encoded: bytes, /) -> None: ...
    def reset(self) -> None: ...


_new: Callable[[int, int, int], _Recorder] = HdrHistogram


class Histogram:
    """Latencies, recorded in nanoseconds, read in milliseconds."""

    __slots__ = ("_inner",)

    def __init__(self) -> None:
        self._inner = _new(1, MAX_US, _DIGITS)

    def note(self, due_ns: int, now_ns: int) -> None:
        """Note what was due at one time of the monotonic clock, and done at another.

        From the time at which it was DUE, not from that at which a late generator got round to it:
        so a server that stands still shows in every latency of that time (coordinated omission).
        """
        self._inner.record_value(min(max(1, (now_ns - due_ns) // 1000), MAX_US))

    def take(self) -> str:
        """Give everything encoded (HdrHistogram V2, base64), and forget it; empty for nothing."""
        if not self.count:
            return ""
        encoded = self._inner.encode().decode()
        self._inner.reset()
        return encoded

    def encoded(self) -> str:
        """Give everything encoded."""
        return self._inner.encode().decode() if self.count else ""

    def add(self, encoded: str) -> None:
        """Add what another histogram gave."""
        if encoded:
            self._inner.decode_and_add(encoded.encode())

    @property
    def count(self) -> int:
        """How many there are."""
        return self._inner.get_total_count()

    def quantile_ms(self, share: float) -> float:
        """Give the latency that `share` (0 to 1) of all do not exceed; 0 where there are none."""
        count = self.count
        if not count:
            return 0.0
        # The package rounds the rank; this makes it the smallest that holds the share.
        rank = max(1, math.ceil(share * count - 1e-9))
        return self._inner.get_value_at_percentile(100 * rank / count) / 1000

    @property
    def max_ms(self) -> float:
        """The longest."""
        return self._inner.get_max_value() / 1000 if self.count else 0.0

    @property
    def mean_ms(self) -> float:
        """The mean."""
        return self._inner.get_mean_value() / 1000 if self.count else 0.0

    def clear(self) -> None:
        """Forget everything."""
        self._inner.reset()
