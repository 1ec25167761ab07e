"""Events of a message's life, as receipts, status and metrics name them."""

import enum

import msgspec

from router.model.ids import DeviceId, MessageId, ProjectId


class Event(enum.StrEnum):
    """What happened to one message for one device."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    SENT = "sent"
    DELIVERED = "delivered"
    DISPLAYED = "displayed"
    OPENED = "opened"
    CLICKED = "clicked"
    DISMISSED = "dismissed"
    NACKED = "nacked"
    BRIDGED = "bridged"
    FAILED = "failed"
    EXPIRED = "expired"
    COLLAPSED = "collapsed"
    DROPPED = "dropped"
    CANCELLED = "cancelled"
    UPSTREAM = "upstream"
    """A message from the device to the app server: `Receipt.message` is the device's own id."""
    UNREGISTERED = "unregistered"
    """The registration ended: `Receipt.message` is empty."""

    @property
    def is_state(self) -> bool:
        """Whether a message can stand at this event."""
        return self not in {Event.UPSTREAM, Event.UNREGISTERED}


ENGAGEMENT = frozenset({Event.DISPLAYED, Event.OPENED, Event.CLICKED, Event.DISMISSED})
"""Events that a device reports of a message that it has."""

TERMINAL = frozenset(
    {
        Event.DELIVERED,
        Event.EXPIRED,
        Event.COLLAPSED,
        Event.DROPPED,
        Event.CANCELLED,
    }
)
"""Events after which the mailbox no longer holds the message. A message has at most one.

One that no mailbox ever held may end with `bridged` or `failed` instead.
"""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """One event on one message for one device, as the outbox carries it."""

    project: ProjectId
    message: MessageId
    device: DeviceId
    event: Event
    time_ms: int
    accepted_ms: int = 0
    """When the message was accepted, where the event ends its life; otherwise 0."""
    detail: str = ""
    data: bytes = b""
    """What the device sent, for an upstream event."""
    target: str = ""
    """`/topics/<topic>` where the event is of a message to many devices as a whole."""
