"""The status of a message: what became of it, and when."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from router.model.audience import Audience
from router.model.ids import DeviceId, MessageId, ProjectId, TopicName
from router.model.receipt import ENGAGEMENT, TERMINAL, Event
from router.model.selection import Selection

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


IN_PROGRESS: Final = "in_progress"
DONE: Final = "done"
"""States of a message to many devices."""
STATES: Final = frozenset({*(event.value for event in Event if event.is_state), IN_PROGRESS, DONE})
"""Every state that a message may be shown in."""


class TimelineEntry(msgspec.Struct, frozen=True, gc=False):
    """The first time that an event happened, in epoch milliseconds."""

    event: Event
    time_ms: int
    detail: str = ""


class MessageStatus(msgspec.Struct, frozen=True):
    """One message, to a device or to many. Times in epoch milliseconds; `send_at_ms` 0: at once."""

    id: MessageId
    project: ProjectId
    device: DeviceId
    """Empty for a message to more than one device."""
    target: str
    """`token`, `topic`, `condition`, `filter`, `user` or `group`."""
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
    topic: TopicName | None = None
    counts: dict[str, int] = {}
    """Devices per event, of a message to a topic."""
    per_device: bool = False
    """Whether the sender asked for receipts of each device of a topic."""
    counted: bool = True
    """False where the sender asked for no counts of a topic's devices."""
    label: str = ""
    """FCM's `analytics_label`."""
    audience: Audience | None = None
    devices: tuple[DeviceId, ...] = ()
    """Who gets a message to a user or a group."""
    spreading: bool = False
    """Whether some of them may not have it in their mailbox yet."""
    copies: tuple["MessageStatus", ...] = ()
    """Where it stands for each of them, as far as that is kept."""
    selection: Selection | None = None

    @property
    def is_published(self) -> bool:
        """Whether the message stands in a log, for many devices."""
        return self.topic is not None or self.selection is not None

    def shown_state(self, now_ms: int) -> str:
        """Name the state: the furthest event of one device, or how it stands with many."""
        if self.device:
            return self.state.value
        if self.is_published and self.state is Event.SCHEDULED:
            return self.state.value
        return DONE if self.is_done(now_ms) else IN_PROGRESS

    @property
    def event_counts(self) -> dict[str, int]:
        """Devices per event; events of a message to a topic as a whole count 1."""
        if self.copies:
            return Counter(entry.event.value for copy in self.copies for entry in copy.timeline)
        return {entry.event.value: 1 for entry in self.timeline} | self.counts

    def is_done(self, now_ms: int) -> bool:
        """Tell whether a message to many reaches nobody any more who did not get it yet."""
        if self.audience is not None:
            return not self.spreading and all(copy.has_ended() for copy in self.copies)
        ended = {Event.CANCELLED, Event.COLLAPSED, Event.DROPPED}
        return now_ms >= self.expires_ms or any(one.event in ended for one in self.timeline)

    def has_ended(self) -> bool:
        """Tell whether a message to one device waits neither in a mailbox nor for a bridge."""
        ends = TERMINAL if self.seq else TERMINAL | {Event.BRIDGED, Event.FAILED}
        return any(one.event in ends for one in self.timeline)


def furthest(timeline: tuple[TimelineEntry, ...]) -> Event:
    """Name the event that tells most about where a message stands."""
    return max((entry.event for entry in timeline), key=_RANK.__getitem__, default=Event.ACCEPTED)


def rates(counts: Mapping[str, int]) -> dict[str, float]:
    """Give shares between 0 and 1, of devices per event.

    `delivered` is a share of those that the message was sent to; what people did is a share of
    those that it was delivered to. A share of nobody is 0.
    """
    delivered = counts.get(Event.DELIVERED, 0)
    shares = {Event.DELIVERED.value: _share(delivered, counts.get(Event.SENT, 0))}
    for event in sorted(ENGAGEMENT):
        shares[event.value] = _share(counts.get(event, 0), delivered)
    return shares


def _share(part: int, whole: int) -> float:
    # Counts that may be one too high or too low must not give a share above 1.
    return min(1.0, round(part / whole, 4)) if whole else 0.0


def in_order(entries: list[TimelineEntry]) -> tuple[TimelineEntry, ...]:
    """Sort a timeline by time, events of one millisecond by how far they go."""
    return tuple(sorted(entries, key=lambda entry: (entry.time_ms, _RANK[entry.event])))
