"""The ids of messages that the handler is done with: the latest so many."""

from collections.abc import Iterable, Iterator


class Seen:
    """A set of ids with a bound; the oldest give way.

    Args:
        limit: how many are remembered.
        ids: the first ones, the oldest first.
    """

    __slots__ = ("_ids", "limit")

    def __init__(self, limit: int, ids: Iterable[str] = ()) -> None:
        self.limit = limit
        self._ids: dict[str, None] = {}
        for message_id in ids:
            self.add(message_id)

    def add(self, message_id: str) -> None:
        """Remember an id."""
        self._ids[message_id] = None
        if len(self._ids) > self.limit:
            del self._ids[next(iter(self._ids))]

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
