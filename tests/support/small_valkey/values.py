"""What keys hold."""

import bisect
from collections.abc import Callable
from typing import Final, TypeVar

from hiredis import ReplyError

Id = tuple[int, int]
"""Of an entry of a stream."""
ZERO: Final[Id] = (0, 0)


class Hash(dict[bytes, bytes]):
    """Fields in the order in which they came."""


class Members(dict[bytes, None]):
    """A set, in the order in which its members came."""


class Many(set[bytes]):
    """A HyperLogLog that counts exactly."""


class Row(list[bytes]):
    """A list."""


class SortedSet:
    """Members by their scores."""

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.order: list[tuple[float, bytes]] = []

    def put(self, member: bytes, score: float) -> None:
        if (before := self.scores.get(member)) is not None:
            if before == score:
                return
            self.remove(member)
        self.scores[member] = score
        bisect.insort(self.order, (score, member))

    def remove(self, member: bytes) -> bool:
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self.order[bisect.bisect_left(self.order, (score, member))]
        return True

    def copy(self) -> "SortedSet":
        twin = SortedSet()
        twin.scores, twin.order = dict(self.scores), list(self.order)
        return twin

    def __len__(self) -> int:
        return len(self.order)


class Stream:
    """Entries by their ids, and the cursors of groups."""

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.fields: dict[Id, list[bytes]] = {}
        self.last: Id = ZERO
        self.groups: dict[bytes, Id] = {}

    def append(self, identifier: Id, fields: list[bytes]) -> None:
        self.ids.append(identifier)
        self.fields[identifier] = fields
        self.last = identifier

    def remove(self, identifier: Id) -> bool:
        if self.fields.pop(identifier, None) is None:
            return False
        del self.ids[bisect.bisect_left(self.ids, identifier)]
        return True

    def drop_first(self, count: int) -> int:
        gone, self.ids = self.ids[:count], self.ids[count:]
        for identifier in gone:
            del self.fields[identifier]
        return len(gone)

    def copy(self) -> "Stream":
        twin = Stream()
        twin.ids, twin.fields = list(self.ids), dict(self.fields)
        twin.last, twin.groups = self.last, dict(self.groups)
        return twin

    def __len__(self) -> int:
        return len(self.ids)


class Text(bytes):
    """A string."""


Value = Hash | Members | Many | Row | SortedSet | Stream | Text
V = TypeVar("V", Hash, Members, Many, Row, SortedSet, Stream, Text)
_KEPT_EMPTY: Final = (Stream, Text, Many)


class Keyspace:
    """Keys with their values and ends.

    Args:
        now_us: the server's clock, microseconds since the epoch.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self.now_us = now_us
        self.values: dict[bytes, Value] = {}
        self.ends_ms: dict[bytes, int] = {}
        self.on_expired: Callable[[bytes], None] = lambda _key: None

    @property
    def now_ms(self) -> int:
        return self.now_us() // 1000

    def find(self, key: bytes, kind: type[V]) -> V | None:
        """Give what a key holds, or None.

        Raises:
            ReplyError: it holds something else.
        """
        value = self.peek(key)
        if value is None:
            return None
        if type(value) is not kind:
            raise ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def make(self, key: bytes, kind: type[V]) -> V:
        """Give what a key holds; a new one where there is none."""
        value = self.find(key, kind)
        if value is None:
            value = self.values[key] = kind()
        return value

    def peek(self, key: bytes) -> Value | None:
        """Give what a key holds, of any kind; one whose end has come is gone."""
        end_ms = self.ends_ms.get(key)
        if end_ms is not None and end_ms <= self.now_ms:
            self.drop(key)
            self.on_expired(key)
        return self.values.get(key)

    def drop(self, key: bytes) -> bool:
        self.ends_ms.pop(key, None)
        return self.values.pop(key, None) is not None

    def tidy(self, key: bytes) -> None:
        """Forget a key whose last element is gone."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, _KEPT_EMPTY) and not len(value):
            self.drop(key)

    def copy(self) -> "Keyspace":
        twin = Keyspace(self.now_us)
        for key, value in self.values.items():
            twin.values[key] = value if isinstance(value, Text) else _copy(value)
        twin.ends_ms = dict(self.ends_ms)
        return twin


def _copy(value: Value) -> Value:
    if isinstance(value, SortedSet | Stream):
        return value.copy()
    return type(value)(value)  # type: ignore[arg-type]
