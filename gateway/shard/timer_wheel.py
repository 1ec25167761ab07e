"""One timer wheel for all connections of a shard, without I/O.

An item stands in at most one slot. A deadline that moves later costs nothing: the item is given at
its old time, and its owner arms it again. A deadline beyond the horizon is given at the horizon,
for the same reason. So arming is O(1), and an idle item is looked at once a horizon.
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

TICK_MS: Final = 100
SLOTS: Final = 256


class TimerWheel(Generic[T]):
    """Items by the time at which they want a look. Times are in milliseconds, on one clock.

    Args:
        now_ms: the time.
        tick_ms: precision; an item is given up to this much late, never early.
        slots: the horizon in ticks.
    """

    __slots__ = ("_buckets", "_next", "_slots", "_tick_ms", "_times")

    def __init__(self, now_ms: int, tick_ms: int = TICK_MS, slots: int = SLOTS) -> None:
        self._tick_ms = tick_ms
        self._slots = slots
        self._buckets: list[set[T]] = [set() for _ in range(slots)]
        self._next = now_ms // tick_ms + 1
        """The first tick that was not given yet."""
        # One int object per slot, shared by the slot's items, instead of one for each of them.
        self._times = [0] * slots

    def __len__(self) -> int:
        """Give how many items are armed."""
        return sum(map(len, self._buckets))

    def __iter__(self) -> Iterator[T]:
        """Go through all armed items as they stand now."""
        return iter([item for bucket in self._buckets for item in bucket])

    def arm(self, item: T, due_ms: int, armed_ms: int = 0) -> int:
        """Have `item` given at `due_ms` or, where it is armed already, at the earlier of both.

        Args:
            item: hashable by identity.
            due_ms: when it wants a look.
            armed_ms: what the last `arm` gave for it; 0 once it was given or disarmed.

        Returns:
            When it will be given: keep it for the next `arm` or `disarm`.
        """
        tick = -(-due_ms // self._tick_ms)
        tick = min(max(tick, self._next), self._next + self._slots - 1)
        if armed_ms:
            if armed_ms <= tick * self._tick_ms:
                return armed_ms
            self.disarm(item, armed_ms)
        slot = tick % self._slots
        bucket = self._buckets[slot]
        if not bucket:
            self._times[slot] = tick * self._tick_ms
        bucket.add(item)
        return self._times[slot]

    def disarm(self, item: T, armed_ms: int) -> None:
        """Forget `item`, which `arm` said would be given at `armed_ms` (0: it is not armed)."""
        if armed_ms:
            self._buckets[armed_ms // self._tick_ms % self._slots].discard(item)

    def advance(self, now_ms: int) -> list[T]:
        """Give the items whose time has come. They are no longer armed.

        A clock that went back gives nothing until it has caught up; one that went back by more
        than the horizon gives all, so that none waits for the old time.
        """
        last = now_ms // self._tick_ms
        if last + self._slots < self._next:
            self._next = last - self._slots + 1
        due: list[T] = []
        # After a long stall every slot is due once, not once per tick.
        for tick in range(self._next, min(last, self._next + self._slots - 1) + 1):
            slot = tick % self._slots
            if bucket := self._buckets[slot]:
                due.extend(bucket)
                self._buckets[slot] = set()
        self._next = max(self._next, last + 1)
        return due
