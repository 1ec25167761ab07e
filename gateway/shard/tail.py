"""The ends of topics' logs, as far as a shard remembers them. Pure.

It holds all messages of one stretch of the log, from behind `base` up to `top`. A session whose
cursor lies in that stretch is served from here: a storm of reconnects reads the store seldom.
"""

from collections.abc import Sequence
from typing import Final

from gateway.shard.session.published import Item

MAX_ITEMS: Final = 256
"""Messages that a tail holds; the oldest give way."""
MAX_BYTES: Final = 1_048_576
"""Bytes that they take, by `weight`."""
_ITEM_BYTES: Final = 600
_COPIES: Final = 3
"""The frame as it is stored, and as each dialect writes it."""


def weight(item: Item) -> int:
    """Give the bytes that a message takes at the most: frames are built where they are needed."""
    return _ITEM_BYTES + _COPIES * len(item.frame)


class Tail:
    """A stretch of a log, complete.

    Args:
        at: the seq at which it begins, empty.
    """

    __slots__ = ("_items", "base", "bytes", "top")

    def __init__(self, at: int) -> None:
        self.base = self.top = at
        self._items: list[Item] = []
        self.bytes = 0
        """What the messages take."""

    def __len__(self) -> int:
        return len(self._items)

    def publish(self, item: Item) -> bool:
        """Append what was published; False where something before it is missing."""
        if item.seq <= self.top:
            return True
        whole = item.previous <= self.top
        if not whole:
            self._restart(item.previous)
        if item.collapse_key:
            for earlier in self._items:
                earlier.gone = earlier.gone or earlier.collapse_key == item.collapse_key
        self._items.append(item)
        self.bytes += weight(item)
        self.top = item.seq
        self._trim()
        return whole

    def jump(self, head: int) -> None:
        """Take it that the log goes on to `head`, unseen."""
        if head > self.top:
            self._restart(head)

    def forget(self) -> None:
        """Drop all messages; the log goes on behind them."""
        self._restart(self.top)

    def retract(self, seq: int) -> None:
        """Take it that a message goes to nobody any more."""
        for item in self._items:
            if item.seq == seq:
                item.gone = True

    def covers(self, after: int) -> bool:
        """Tell whether nothing is missing between `after` and the top."""
        return self.base <= after

    def read(self, after: int, limit: int) -> tuple[list[Item], int]:
        """Give messages behind `after`, and up to where they are all; `after` is covered."""
        at = len(self._items)
        while at and self._items[at - 1].seq > after:
            at -= 1
        found = self._items[at : at + limit]
        cut = at + limit < len(self._items)
        return found, found[-1].seq if cut else self.top

    def merge(self, after: int, read: Sequence[Item], upto: int) -> list[Item]:
        """Take a stretch read from the store; gives its messages, those known before as they were.

        What is remembered and was not read there is gone from the log.
        """
        if upto < self.base or after > self.top:
            if upto > self.top:
                self._replace(list(read), after, upto)
            return list(read)
        known = {item.seq: item for item in self._items}
        merged = [known.get(item.seq, item) for item in read]
        seqs = {item.seq for item in read}
        for item in self._items:
            if after < item.seq <= upto and item.seq not in seqs:
                item.gone = True
        before = [item for item in self._items if item.seq <= after]
        behind = [item for item in self._items if item.seq > upto]
        self._replace([*before, *merged, *behind], min(after, self.base), max(upto, self.top))
        return merged

    def _replace(self, items: list[Item], base: int, top: int) -> None:
        self._items, self.base, self.top = items, base, top
        self.bytes = sum(weight(item) for item in items)
        self._trim()

    def _restart(self, at: int) -> None:
        self._items = []
        self.bytes = 0
        self.base = self.top = at

    def _trim(self) -> None:
        drop = max(0, len(self._items) - MAX_ITEMS)
        size = self.bytes - sum(weight(item) for item in self._items[:drop])
        while size > MAX_BYTES and drop < len(self._items):
            size -= weight(self._items[drop])
            drop += 1
        if drop:
            self.base = self._items[drop - 1].seq
            del self._items[:drop]
            self.bytes = size


class Tails:
    """All tails of a shard: together they are bounded, and those not used for longest give way.

    Args:
        limit: bytes that all of them take at the most.
    """

    __slots__ = ("_limit", "_sizes", "bytes")

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._sizes: dict[Tail, int] = {}
        """From the one not used for longest to the last."""

    def used(self, tail: Tail) -> None:
        """Take it that a tail was read or changed."""
        sizes = self._sizes
        self.bytes += tail.bytes - sizes.pop(tail, 0)
        sizes[tail] = tail.bytes
        while self.bytes > self._limit and len(sizes) > 1:
            oldest = next(iter(sizes))
            self.drop(oldest)
            oldest.forget()

    def drop(self, tail: Tail) -> None:
        """Take it that a tail is gone."""
        self.bytes -= self._sizes.pop(tail, 0)
