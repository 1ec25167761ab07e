"""The status of a message: what became of it, and when."""

from typing import Final

import msgspec

from router.model.ids import DeviceId, MessageId, ProjectId
from router.model.receipt import Event

_RANK: Final = {
    Event.SCHEDULED: 0,
    Event.ACCEPTED: 1,
    Event.NACKED: 2,
    Event.SENT: 3,
    Event.BRIDGED: 4,
    Event.EXPIRED: 5,
    Event.COLLAPSED: 5,
    Event.DROPPED: 5,
    Event.CANCELLED: 5,
    Event.FAILED: 5,
    Event.DELIVERED: 6,
    Event.DISPLAYED: 7,
    Event.DISMISSED: 8,
    Event.CLICKED: 9,
    Event.OPENED: 10,
    Event.UPSTREAM: 11,
    Event.UNREGISTERED: 11,
}


class TimelineEntry(msgspec.Struct, frozen=True, gc=False):
    """The first time that an event happened, in epoch milliseconds."""

    event: Event
    time_ms: int
    detail: str = ""


class MessageStatus(msgspec.Struct, frozen=True):
    """One message to one device. Times in epoch milliseconds; `send_at_ms` 0 for at once."""

    id: MessageId
    project: ProjectId
    device: DeviceId
    target: str
    state: Event
    """The furthest event."""
    created_ms: int
    expires_ms: int
    send_at_ms: int = 0
    seq: int = 0
    collapse_key: str = ""
    attempts: int = 0
    """How often the message was reported as sent to its device."""
    timeline: tuple[TimelineEntry, ...] = ()


def furthest(timeline: tuple[TimelineEntry, ...]) -> Event:
    """Name the event that tells most about where a message stands."""
    return max((entry.event for entry in timeline), key=_RANK.__getitem__, default=Event.ACCEPTED)


def in_order(entries: list[TimelineEntry]) -> tuple[TimelineEntry, ...]:
    """Sort a timeline by time, events of one millisecond by how far they go."""
    return tuple(sorted(entries, key=lambda entry: (entry.time_ms, _RANK[entry.event])))
