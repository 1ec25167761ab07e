"""Which queues hold jobs, and which of them to take from next. Pure.

A queue is that of one bridge of one project in one partition. What is known of its first job is
what the last look at it showed, and what was put into it since.
"""

import math
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from router.model.ids import Partition
from router.store.bridge_jobs import Head, Lane

LEAST_AT_ONCE: Final = 16
"""Jobs that one call of the store asks for at least: a call costs as much as taking a few jobs."""
MOST_AT_ONCE: Final = 64
"""Jobs of one queue in a round: what is more urgent elsewhere goes before the rest."""

_NONE: Final = Head(1 << 30, 0)


class Take(NamedTuple):
    """So many jobs of a queue, at most."""

    partition: Partition
    lane: Lane
    most: int


class Queues:
    """The queues of one worker's partitions."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, dict[Partition, Head]] = {}
        self._since: dict[tuple[Lane, Partition], Head] = {}
        """Of queues that are looked at now: the most urgent job that came since."""

    def found(self, lane: Lane, partition: Partition, head: Head) -> None:
        """Take it that a queue holds a job."""
        queues = self._lanes.setdefault(lane, {})
        queues[partition] = min(head, queues.get(partition, head))
        if (at := (lane, partition)) in self._since:
            self._since[at] = min(head, self._since[at])

    def begin(self, take: Take) -> None:
        """Take it that somebody looks at a queue now."""
        self._since[take.lane, take.partition] = _NONE

    def missed(self, take: Take) -> None:
        """Take it that the look failed."""
        self._since.pop((take.lane, take.partition), None)

    def seen(self, take: Take, head: Head | None) -> None:
        """Take it that a queue was found with this head; None for an empty one."""
        since = self._since.pop((take.lane, take.partition), _NONE)
        head = min(head or _NONE, since)
        if take.partition not in self._lanes.get(take.lane, {}):
            return
        if head == _NONE:
            self._drop(take.lane, take.partition)
        else:
            self._lanes[take.lane][take.partition] = head

    def keep(self, partitions: Collection[Partition]) -> None:
        """Forget the queues of other partitions."""
        gone = [
            (lane, partition)
            for lane, queues in self._lanes.items()
            for partition in queues
            if partition not in partitions
        ]
        for lane, partition in gone:
            self._drop(lane, partition)

    def plan(self, free: int, room: Callable[[Lane], int]) -> list[Take]:
        """Choose what to take: the most urgent first, the oldest of them first.

        Args:
            free: jobs at most.
            room: tells how many of a lane may go.
        """
        takes: list[Take] = []
        for lane in sorted(self._lanes, key=self._first):
            if free <= 0:
                break
            for take in self._of_lane(lane, min(room(lane), free)):
                takes.append(take)
                free -= take.most
        return takes

    def oldest(self) -> dict[str, tuple[int, int]]:
        """Give, by bridge, how many queues hold jobs and since when the first of them waits."""
        found: dict[str, tuple[int, int]] = {}
        for lane, queues in self._lanes.items():
            count, since_ms = found.get(lane.bridge, (0, 0))
            first_ms = min(head.since_ms for head in queues.values())
            oldest_ms = min(since_ms, first_ms) if since_ms else first_ms
            found[lane.bridge] = (count + len(queues), oldest_ms)
        return found

    def _first(self, lane: Lane) -> Head:
        return min(self._lanes[lane].values())

    def _of_lane(self, lane: Lane, most: int) -> list[Take]:
        if most <= 0:
            return []
        queues = self._lanes[lane]
        urgent = self._first(lane).lane
        chosen = sorted((head, each) for each, head in queues.items() if head.lane == urgent)
        each = min(MOST_AT_ONCE, max(LEAST_AT_ONCE, math.ceil(most / len(chosen))))
        takes = []
        for _, partition in chosen:
            if most <= 0:
                break
            takes.append(Take(partition, lane, min(each, most)))
            most -= each
        return takes

    def _drop(self, lane: Lane, partition: Partition) -> None:
        del self._lanes[lane][partition]
        if not self._lanes[lane]:
            del self._lanes[lane]
