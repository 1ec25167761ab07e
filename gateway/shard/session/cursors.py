"""How far one session is in its topics: which message goes out, what an ack moves. Pure.

Of each topic a session keeps one number, its `head`: the seq of the last message dealt with. Beside
it stand the messages that are in flight or nacked, of all topics together. The cursor of a topic,
from which the device's next session goes on, is not kept: it is the head, or, while messages of the
topic are unacked, what lies before the first of them. So it never passes an unacked message, and an
ack out of order needs no memory: what lies between cursor and head is either in flight or done.

A topic whose log holds what the session has not seen is `behind`: its log is read in order, and
nothing of it is sent past that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from gateway.shard.session.published import Item, Run, Together, Topic
from router.model.ids import BROADCAST, MessageId, TopicName
from router.model.selection import Profile

NOBODY: Final = Profile()
"""Of a device that says nothing of itself."""
NEVER_MS: Final = 1 << 62
MAX_HELD: Final = 1_024
"""Nacked messages that take no room; it bounds the memory of a session that nacks everything."""
_MAX_BACKOFF: Final = 3
"""The time to the next redelivery doubles so many times."""


class TopicFlight(msgspec.Struct, gc=False):
    """A message that the device has and has not acked, or has nacked."""

    topic: Topic
    item: Item
    due_ms: int
    repeats: int = 0
    held: bool = False
    """Nacked: it takes no room until it is sent again."""


class Cursors:
    """The topics of one session.

    Args:
        profile: what filters ask for.
    """

    __slots__ = (
        "_behind",
        "_dirty",
        "_flights",
        "_heads",
        "_together",
        "due_ms",
        "in_flight",
        "is_short",
        "profile",
    )

    def __init__(self, profile: Profile = NOBODY) -> None:
        self.profile = profile
        self._heads: dict[Topic, int] = {}
        self._flights: dict[MessageId, TopicFlight] | None = None
        self._behind: dict[Topic, None] | None = None
        self._together: Together | None = None
        """All that is in flight, where it is a run as it was sent; then there are no `_flights`."""
        self._dirty: Mapping[Topic, None] | None = None
        self.in_flight = 0
        """Messages that take room in the window."""
        self.due_ms = NEVER_MS
        """No message is due again before this time."""
        self.is_short = False
        """Whether nacked messages are due that there was no room for."""

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._heads)

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._heads

    @property
    def is_dirty(self) -> bool:
        """Whether a cursor may have moved since `take_dirty`."""
        return self._dirty is not None

    def is_quiet(self, now_ms: int) -> bool:
        """Whether no log is to be read and nothing is to be sent again."""
        return self._behind is None and not self.is_short and now_ms < self.due_ms

    # Subscriptions.

    def join(self, topic: Topic, cursor: int) -> None:
        """Take a subscription: what lies beyond `cursor` is to be sent."""
        head = self._heads.get(topic)
        # What is in flight lies beyond the stored cursor, unless it ended and began anew meanwhile.
        self._drop_flights(topic, cursor)
        if head is None or cursor > head:
            self._heads[topic] = cursor
            self.look(topic)

    def replace(self, listed: Iterable[tuple[Topic, int]]) -> None:
        """Take all subscriptions; the broadcast log is none."""
        kept = dict(listed)
        for topic in [topic for topic in self._heads if topic not in kept]:
            if topic.name != BROADCAST:
                self.leave(topic)
        for topic, cursor in kept.items():
            self.join(topic, cursor)

    def begin(self, topic: Topic, cursor: int) -> None:
        """Take part in a log from behind `cursor`, unless the session does; nothing is read yet."""
        self._heads.setdefault(topic, cursor)

    def leave(self, topic: Topic) -> None:
        """Take the end of a subscription: nothing of it is sent or told from now on."""
        if self._heads.pop(topic, None) is None:
            return
        self._drop_flights(topic, NEVER_MS)
        self._done(topic)
        if self._dirty is not None and topic in self._dirty:
            self._dirty = {one: None for one in self._dirty if one is not topic} or None

    def look(self, topic: Topic) -> bool:
        """Compare with what is known of the log; True where the session is behind."""
        head = self._heads.get(topic)
        if head is None or head >= topic.head:
            return False
        if self._behind is None:
            self._behind = {}
        self._behind[topic] = None
        return True

    # Out.

    def offer(self, topic: Topic, item: Item, now_ms: int, due_ms: int, room: int) -> bool:
        """Take a message as it is published; True where it is to be sent now.

        `topic.head` counts it already. Where it is not the session's turn, the topic is behind.
        """
        head = self._heads.get(topic)
        if head is None or item.seq <= head:
            return False
        behind = self._behind is not None and topic in self._behind
        if item.previous > head or behind:
            self.look(topic)
            return False
        if not self._is_for(topic, item, now_ms):
            self._pass(topic, item.seq)
            return False
        if room <= 0:
            self.look(topic)
            return False
        self._heads[topic] = item.seq
        self._fly(topic, item, due_ms)
        return True

    def offer_run(self, topic: Topic, run: Run, due_ms: int, room: int) -> bool:
        """Take all of a run that is whole; False where `offer` is to decide on each message."""
        head = self._heads.get(topic)
        if head is None or not run.previous <= head < run.first or room < run.size:
            return False
        if self._behind is not None and topic in self._behind:
            return False
        self._heads[topic] = run.last
        if self._flights is None and self._together is None:
            shared = run.shared
            if shared is None or shared.due_ms != due_ms:
                shared = run.share(topic, due_ms)
            self._together = shared
        else:
            flights = self._unfold()
            for item in run.items:
                flights[item.message] = TopicFlight(topic, item, due_ms)
        self.in_flight += run.size
        if due_ms < self.due_ms:  # noqa: PLR1730 - `min` costs four times as much
            self.due_ms = due_ms
        return True

    def offer_live(self, topic: Topic, item: Item, due_ms: int, room: int) -> bool:
        """Take a message with a TTL of 0, which no log holds: now or never."""
        known = self.has_flight(item.message)
        if topic not in self._heads or room <= 0 or known or not self._admits(topic, item):
            return False
        self._fly(topic, item, due_ms)
        return True

    def next_read(self) -> tuple[Topic, int] | None:
        """Give a topic that is behind, and the seq from behind which it is to be read."""
        while self._behind:
            topic = next(iter(self._behind))
            if self.look(topic):
                return topic, self._heads[topic]
            self._done(topic)
        return None

    def take(
        self, topic: Topic, items: Sequence[Item], upto: int, now_ms: int, due_ms: int, room: int
    ) -> list[Item]:
        """Take what a read from behind the head brought, all up to `upto`; gives what to send."""
        sent: list[Item] = []
        if topic not in self._heads:
            return sent
        for item in items:
            if item.seq <= self._heads[topic]:
                continue
            if not self._is_for(topic, item, now_ms):
                self._pass(topic, item.seq)
                continue
            if room <= len(sent):
                break
            self._heads[topic] = item.seq
            self._fly(topic, item, due_ms)
            sent.append(item)
        else:
            if upto > self._heads[topic]:
                self._pass(topic, upto)
        if not self.look(topic):
            self._done(topic)
        elif self._behind is not None:
            # The others' turn.
            self._behind[topic] = self._behind.pop(topic)
        return sent

    def due(self, now_ms: int, timeout_ms: int, room: int) -> list[Item]:
        """Give what is to be sent once more, and set when it is due again.

        A nacked message takes room anew: without any it waits, and `is_short` tells so.
        """
        again: list[Item] = []
        self.due_ms = NEVER_MS
        self.is_short = False
        for message, flight in list(self._unfold().items()):
            item = flight.item
            if flight.due_ms > now_ms:
                self.due_ms = min(self.due_ms, flight.due_ms)
                continue
            if not item.seq or item.gone or item.expires_ms <= now_ms:
                self._land(message)
                continue
            if flight.held:
                if room <= 0:
                    self.is_short = True
                    continue
                room -= 1
                flight.held = False
                self.in_flight += 1
            flight.repeats += 1
            flight.due_ms = now_ms + (timeout_ms << min(flight.repeats, _MAX_BACKOFF))
            self.due_ms = min(self.due_ms, flight.due_ms)
            again.append(item)
        self._flights = self._flights or None
        return again

    # In.

    def acked_together(self, ids: Sequence[str]) -> Together | None:
        """Take it that the device is done with all that it has; nothing waits then.

        None where these are not all, or where something else is to be read: for `acked`.
        """
        together = self._together
        if together is None or together.ids != ids or self._behind is not None:
            return None
        self._together = None
        self.in_flight = 0
        self.due_ms = NEVER_MS
        self._touch(together.topic)
        return together

    def acked(self, message: MessageId) -> TopicFlight | None:
        """Take what the device is done with; None where it is not in flight here."""
        return self._land(message) if self.has_flight(message) else None

    def has_flight(self, message: MessageId) -> bool:
        """Tell whether the device has a message and has not acked it."""
        if self._together is not None:
            return message in self._together.ids
        return self._flights is not None and message in self._flights

    def nacked(self, message: MessageId, due_ms: int) -> TopicFlight | None:
        """Keep a message back; None where it is not in flight here."""
        if not self.has_flight(message):
            return None
        flight = self._unfold()[message]
        flight.due_ms = due_ms
        self.due_ms = min(self.due_ms, due_ms)
        if not flight.held and len(self._flights or ()) - self.in_flight < MAX_HELD:
            flight.held = True
            self.in_flight -= 1
        return flight

    def move_deadlines(self, by_ms: int) -> None:
        """Take it that the clock was set."""
        for flight in self._unfold().values():
            flight.due_ms += by_ms
        self._flights = self._flights or None
        if self.due_ms != NEVER_MS:
            self.due_ms += by_ms

    # Cursors.

    def cursor(self, topic: Topic) -> int:
        """Give the seq up to which the device needs nothing any more."""
        together = self._together
        if together is not None and together.topic is topic:
            return together.items[0].seq - 1
        unacked = [
            flight.item.seq
            for flight in (self._flights or {}).values()
            if flight.topic is topic and flight.item.seq
        ]
        return min(unacked) - 1 if unacked else self._heads[topic]

    def take_dirty(self) -> list[tuple[TopicName, int]]:
        """Give the cursors that may have moved, once."""
        dirty, self._dirty = self._dirty, None
        return [(topic.name, self.cursor(topic)) for topic in dirty or ()]

    def mark_dirty(self) -> None:
        """Take it that what `take_dirty` gave was not stored."""
        for topic in self._heads:
            self._touch(topic)

    # Inside.

    def _unfold(self) -> dict[MessageId, TopicFlight]:
        """Give what is in flight message by message; what is left empty is to be None again."""
        if self._flights is None:
            self._flights = {}
        together, self._together = self._together, None
        if together is not None:
            topic, due_ms = together.topic, together.due_ms
            for item in together.items:
                self._flights[item.message] = TopicFlight(topic, item, due_ms)
        return self._flights

    def _is_for(self, topic: Topic, item: Item, now_ms: int) -> bool:
        """Tell whether a message is to be sent, now that its turn has come."""
        if item.gone or item.expires_ms <= now_ms:
            return False
        return item.selection is None or self._admits(topic, item)

    def _admits(self, topic: Topic, item: Item) -> bool:
        if item.selection is None:
            return True
        heads, siblings = self._heads, topic.siblings
        return item.selection.admits(self.profile, lambda name: siblings.get(name) in heads)

    def _pass(self, topic: Topic, seq: int) -> None:
        """Move the head over what is not sent; it takes no room.

        Where a broadcast goes to few, all others' cursors would have to be stored for it: that of
        the broadcast log is stored when the device acks, and when it leaves.
        """
        self._heads[topic] = seq
        if topic.name != BROADCAST:
            self._touch(topic)

    def _fly(self, topic: Topic, item: Item, due_ms: int) -> None:
        self._unfold()[item.message] = TopicFlight(topic, item, due_ms)
        self.in_flight += 1
        self.due_ms = min(self.due_ms, due_ms)

    def _land(self, message: MessageId) -> TopicFlight | None:
        flights = self._unfold()
        flight = flights.pop(message, None)
        self._flights = flights or None
        if flight is None:
            return None
        if not flight.held:
            self.in_flight -= 1
        if flight.item.seq:
            self._touch(flight.topic)
        return flight

    def _drop_flights(self, topic: Topic, upto: int) -> None:
        """Forget what is in flight up to a seq; what has none goes with the subscription."""
        if self._flights is None and self._together is None:
            return
        for message, flight in list(self._unfold().items()):
            seq = flight.item.seq or NEVER_MS
            if flight.topic is topic and seq <= upto:
                self._land(message)

    def _touch(self, topic: Topic) -> None:
        dirty = self._dirty
        if topic not in self._heads or (dirty is not None and topic in dirty):
            return
        self._dirty = topic.alone if dirty is None else {**dirty, topic: None}

    def _done(self, topic: Topic) -> None:
        if self._behind is not None:
            self._behind.pop(topic, None)
            self._behind = self._behind or None
