"""Lanes: messages of one priority on their way to the devices, apart from those of another.

Priorities are what senders say; lanes are the order in which Pushwire takes its turns.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Final

from router.model.message import Priority


class Lane(enum.IntEnum):
    """One lane for each priority; the least goes first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3

    @property
    def urgent(self) -> bool:
        """Whether its commands go before those of others that wait for the store."""
        return self <= Lane.HIGH

    @property
    def label(self) -> str:
        """Its priority, as metrics and keys name it."""
        return self.name.lower()


LANE_OF: Final[Mapping[Priority, Lane]] = {
    Priority.CRITICAL: Lane.CRITICAL,
    Priority.HIGH: Lane.HIGH,
    Priority.NORMAL: Lane.NORMAL,
    Priority.LOW: Lane.LOW,
}


def slowest(priorities: Iterable[Priority]) -> Lane:
    """Give the lane of what is stored in one go: no message overtakes those before it."""
    return max((LANE_OF[priority] for priority in priorities), default=Lane.NORMAL)
