"""What sessions of a shard share of published messages: their log, frames and counts. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.shard.dialect import Dialect
from gateway.shard.events import CRITICAL_ROOM, Relay
from gateway.shard.frames import BINARY, TEXT, build_frame
from router.model.ids import DeviceId, MessageId, ProjectId, TopicName
from router.model.lane import Lane
from router.model.message import ReceiptMode
from router.model.receipt import Event
from router.model.topic import DeviceEvent
from router.policy.admission import Admission

# A member looked up at its enum costs ten times a global name.
_NONE: Final = ReceiptMode.NONE
_DEVICE: Final = ReceiptMode.DEVICE


class Topic:
    """A topic as the sessions of a shard share it; `head` is the last seq known of its log.

    Args:
        name: `BROADCAST` for the log that all devices of the project follow.
        counts: where sessions count.
        head: see above.
        siblings: the topics of the project by name, which conditions ask for.
    """

    __slots__ = ("alone", "counts", "head", "name", "siblings")

    def __init__(
        self,
        name: TopicName,
        counts: "Counts",
        head: int = 0,
        siblings: "Mapping[TopicName, Topic] | None" = None,
    ) -> None:
        self.name = name
        self.counts = counts
        self.head = head
        self.siblings = {} if siblings is None else siblings
        self.alone: Final[Mapping[Topic, None]] = {self: None}
        """A set of this topic alone, shared by the sessions that have moved in no other."""


class Item(msgspec.Struct, gc=False):
    """A published message, shared by all sessions that it goes to."""

    project: ProjectId
    seq: int
    previous: int
    """The seq before it, as far as is known: who has seen that one misses nothing."""
    message: MessageId
    expires_ms: int
    receipts: ReceiptMode
    collapse_key: str
    frame: bytes
    lane: Lane = Lane.NORMAL
    """As its hint says; what was read from the log does not tell."""
    selection: Admission | None = None
    """Of the topic's devices, the ones that it is for; None for all of them."""
    gone: bool = False
    """Retracted or collapsed: it goes to nobody who does not have it."""
    counted: bool = False
    """Whether it stands in the list of what is to be counted."""
    counts: dict[Event, int] = {}
    devices: list[DeviceEvent] = []
    relays: dict[str, Relay] = {}

    def relay(self, dialect: Dialect) -> Relay:
        """Give its whole WebSocket frame: built once for all sessions of a dialect."""
        found = self.relays.get(dialect.subprotocol)
        if found is None:
            payload = dialect.message(self.frame)
            if isinstance(payload, str):
                data = build_frame(TEXT, payload.encode())
            else:
                data = build_frame(BINARY, payload)
            found = self.relays[dialect.subprotocol] = Relay(data)
        return found


class Together(msgspec.Struct, frozen=True, gc=False):
    """A run in flight, shared by all sessions that took it at one time and have nothing else.

    Most have nothing else: so a delivery makes no object of its own, and its ack drops none.
    """

    topic: Topic
    items: Sequence[Item]
    ids: list[MessageId]
    due_ms: int


class Run:
    """Messages of one topic and lane, one behind the other: a session takes them at once.

    Args:
        items: at least one; what has no seq stands alone.
    """

    __slots__ = (
        "_chained",
        "_written",
        "extra",
        "first",
        "items",
        "lane",
        "last",
        "previous",
        "shared",
        "size",
        "whole",
    )

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.size = len(items)
        self.lane = items[0].lane
        self.extra = CRITICAL_ROOM if self.lane is Lane.CRITICAL else 0
        """Room beyond the window that these may take."""
        self.previous = items[0].previous
        self.first = items[0].seq
        self.last = items[-1].seq
        pairs = itertools.pairwise(items)
        self._chained = self.first > 0 and all(one.seq == two.previous for one, two in pairs)
        self._written: dict[Dialect, tuple[Relay]] = {}
        self.shared: Together | None = None
        """As those have it that took it last."""
        self.whole = False
        """Whether all of it goes to everyone who has seen what is before it, by `look`."""

    def look(self, now_ms: int) -> None:
        """See what became of the messages, before a part of the sessions is written to."""
        self.whole = self._chained and all(
            not item.gone and item.expires_ms > now_ms and item.selection is None
            for item in self.items
        )

    def share(self, topic: Topic, due_ms: int) -> Together:
        """Give the run in flight to sessions of its topic, due again at one time."""
        ids = [item.message for item in self.items]
        self.shared = Together(topic, self.items, ids, due_ms)
        return self.shared

    def written(self, dialect: Dialect) -> tuple[Relay]:
        """Give what writes all frames as one piece: built once for all sessions of a dialect."""
        found = self._written.get(dialect)
        if found is None:
            frames = [item.relay(dialect).data for item in self.items]
            relay = Relay(b"".join(frames)) if self.size > 1 else self.items[0].relay(dialect)
            found = self._written[dialect] = (relay,)
        return found


class Counts(msgspec.Struct):
    """What became of messages to topics, until the shard stores it."""

    items: list[Item] = []

    def add(self, item: Item, event: Event, device: DeviceId, now_ms: int) -> None:
        """Count an event of one device, as its sender asked."""
        if item.receipts is _NONE:
            return
        if item.receipts is _DEVICE:
            item.devices.append(DeviceEvent(device, event, now_ms))
        elif event is Event.NACKED:
            return  # a device may nack again and again: a sum of that would count no devices
        else:
            item.counts[event] = item.counts.get(event, 0) + 1
        if not item.counted:
            item.counted = True
            self.items.append(item)
