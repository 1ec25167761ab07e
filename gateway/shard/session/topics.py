"""Topics of one session: what the shard's index tells it, what of it goes out, what acks move.

The rules stand in `cursors`; here they meet the window, the socket and the timer of the session.
"""

from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from gateway.shard.dialect import Dialect
from gateway.shard.events import (
    TRANSITIONS,
    Acked,
    Action,
    CursorsMoved,
    Input,
    ReadTopic,
    SaveCursors,
    SessionError,
    SessionLimits,
    State,
)
from gateway.shard.session.cursors import NOBODY, Cursors
from gateway.shard.session.delivery import Delivery
from gateway.shard.session.published import Item, Run, Topic
from router.model.ids import BROADCAST, DeviceId, MessageId, ProjectId, TopicName
from router.model.receipt import Event
from router.model.selection import Profile

_NOTHING: Final[tuple[Action, ...]] = ()
_SENT: Final = Event.SENT
_DELIVERED: Final = Event.DELIVERED
_NOBODY: Final = DeviceId("")
_LIVE: Final = State.LIVE
_CLOSED: Final = State.CLOSED


class TopicDelivery(Delivery):
    """The mailbox and the topics as one session sees them.

    Args:
        dialect: how this device writes frames.
        limits: what all sessions of the shard share.
    """

    __slots__ = (
        "_announced",
        "_cursors",
        "_profile",
        "_reading",
        "_since",
        "project",
        "state",
    )

    def __init__(self, dialect: Dialect, limits: SessionLimits) -> None:
        super().__init__(dialect, limits)
        self.state = State.CONNECTING
        self.project = ProjectId("")
        self._profile = NOBODY
        self._cursors: Cursors | None = None
        self._since = -1
        """The stored cursor of the broadcast log, where the session hears of it. It takes part as
        soon as there is something behind that: most never need a cursor."""
        self._reading: Topic | None = None
        self._announced = False
        """Whether the shard knows that cursors are to be stored."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What the device subscribes to, as far as the session knows."""
        return tuple(self._cursors) if self._cursors is not None else ()

    # What the shard tells.

    def on_topics(
        self,
        listed: Sequence[tuple[Topic, int]],
        now_ms: int,
        profile: Profile | None = None,
        broadcast: tuple[Topic, int] | None = None,
    ) -> Sequence[Action]:
        """Take all topics of the device, and the cursors that are stored; and what it is like."""
        if self._ignores(Input.TOPIC):
            return _NOTHING
        if profile is not None:
            self._profile = profile
        if broadcast is not None:
            self._since = max(self._since, broadcast[1])
        before = self._cursors
        if before is None and listed:
            self._cursors = Cursors()
        if self._cursors is not None:
            self._cursors.profile = self._profile
            self._cursors.replace(listed)
            self._cursors = self._cursors if len(self._cursors) else None
        if broadcast is not None:
            self._look(broadcast[0])
        changed = before is not None or self._cursors is not None
        return self._pump([], now_ms) if changed else _NOTHING

    def on_published(self, topic: Topic, run: Run, now_ms: int) -> Sequence[Action]:
        """Take messages as they are published; `topic.head` counts them already."""
        # Nearly always live: the rest, and what is wrong, is for `_ignores`.
        if self.state is not _LIVE and self._ignores(Input.TOPIC):
            return _NOTHING
        cursors = self._cursors if topic.name != BROADCAST else self._taking_part(topic)
        if cursors is None:
            return _NOTHING
        limits = self._limits
        room = 0
        if self._writable:
            room = limits.window + run.extra - cursors.in_flight
            if self._flights:
                room -= len(self._flights)
        due_ms = now_ms + limits.ack_timeout_ms
        if run.whole and cursors.offer_run(topic, run, due_ms, room):
            if due_ms < self.deadline_ms:  # noqa: PLR1730 - `min` costs four times as much
                self.deadline_ms = due_ms
            self._note_sent(topic, run.items, now_ms)
            return run.written(self._dialect)
        taken = self._offer_each(cursors, topic, run, now_ms, room)
        if taken:
            self._arm(due_ms)
        actions = self._relays(topic, taken, now_ms)
        return self._moved(self._pump(actions, now_ms) if self._has_more(now_ms) else actions)

    def _offer_each(
        self, cursors: Cursors, topic: Topic, run: Run, now_ms: int, room: int
    ) -> list[Item]:
        """Decide on each message of a run by itself; gives what goes out."""
        taken: list[Item] = []
        due_ms = now_ms + self._limits.ack_timeout_ms
        for item in run.items:
            left = room - len(taken)
            if item.seq:
                goes = cursors.offer(topic, item, now_ms, due_ms, left)
            else:
                late = now_ms - item.expires_ms > self._limits.live_grace_ms
                goes = not late and cursors.offer_live(topic, item, due_ms, left)
            if goes:
                taken.append(item)
        return taken

    def on_tail(self, topic: Topic, now_ms: int) -> Sequence[Action]:
        """Take it that more is known of a topic's log than was published to this shard."""
        if self._ignores(Input.TOPIC) or not self._look(topic):
            return _NOTHING
        return self._pump([], now_ms)

    def on_topic_read(
        self, topic: Topic, items: Sequence[Item], upto: int, now_ms: int
    ) -> Sequence[Action]:
        """Take the answer to `ReadTopic`: all that the log holds behind the head, up to `upto`."""
        if self._ignores(Input.TOPIC) or self._reading is not topic:
            return _NOTHING
        self._reading = None
        if self._cursors is None:
            return _NOTHING
        room = self._room() if self._writable else 0
        due_ms = now_ms + self._limits.ack_timeout_ms
        taken = self._cursors.take(topic, items, upto, now_ms, due_ms, room)
        return self._moved(self._pump(self._relays(topic, taken, now_ms), now_ms))

    def on_topic_away(self, now_ms: int) -> Sequence[Action]:
        """Take it that the store did not answer `ReadTopic`."""
        if self._ignores(Input.TOPIC):
            return _NOTHING
        self._reading = None
        self._retry_ms = now_ms + self._limits.retry_ms
        self._arm(self._retry_ms)
        return _NOTHING

    def take_cursors(self) -> list[tuple[TopicName, int]]:
        """Give the cursors that may have moved since the last call."""
        self._announced = False
        if self._cursors is None:
            return []
        taken = self._cursors.take_dirty()
        for name, cursor in taken:
            if name == BROADCAST:
                self._since = cursor
        return taken

    def keep_cursors(self) -> Sequence[Action]:
        """Take it that what `take_cursors` gave was not stored."""
        if self._cursors is None or self._ignores(Input.TOPIC):
            return _NOTHING
        self._cursors.mark_dirty()
        return self._moved([])

    def on_writable(self, writable: bool, now_ms: int) -> Sequence[Action]:  # noqa: FBT001 - a state
        """Take it that the transport's buffer is full, or has room again."""
        self._writable = writable
        return self._pump([], now_ms) if writable and self._is_live() else _NOTHING

    # For the session.

    def _on_ack(self, ids: Sequence[str], now_ms: int) -> Sequence[Action]:
        """Take an ack frame."""
        if (done := self._acked_together(ids, now_ms)) is not None:
            return done
        ids = self._topic_acks(ids, now_ms)
        acks = self._settle(ids, now_ms) if ids else []
        actions: list[Action] = [Acked(tuple(acks), self._heard(acks))] if acks else []
        return self._moved(self._pump(actions, now_ms) if self._has_more(now_ms) else actions)

    def _acked_together(self, ids: Sequence[str], now_ms: int) -> Sequence[Action] | None:
        """Take acks of all that the device has, as nearly all of topics are; None for others."""
        cursors = self._cursors
        if cursors is None or (together := cursors.acked_together(ids)) is None:
            return None
        counts, device = together.topic.counts, self.device or _NOBODY
        for item in together.items:
            counts.add(item, _DELIVERED, device, now_ms)
        waits = self._head > self._cursor or self._rescan is not None
        return self._moved(self._pump([], now_ms) if waits else _NOTHING)

    def _topic_acks(self, ids: Sequence[str], now_ms: int) -> Sequence[str]:
        """Take acks of messages to topics; give the other ids."""
        cursors = self._cursors
        if cursors is None:
            return ids
        others: list[str] = []
        for text in ids:
            flight = cursors.acked(MessageId(text))
            if flight is None:
                others.append(text)
            else:
                flight.topic.counts.add(flight.item, _DELIVERED, self.device or _NOBODY, now_ms)
        return others

    def _has_more(self, now_ms: int) -> bool:
        """Whether there may be something to read, or to send once more."""
        if self._head > self._cursor or self._rescan is not None:
            return True
        return self._cursors is not None and not self._cursors.is_quiet(now_ms)

    def _topic_nack(self, message: MessageId, due_ms: int, now_ms: int) -> Sequence[Action]:
        """Keep a message to a topic back; an unknown one is done with, or never was here."""
        flight = self._cursors.nacked(message, due_ms) if self._cursors is not None else None
        if flight is not None:
            flight.topic.counts.add(flight.item, Event.NACKED, self.device or _NOBODY, now_ms)
            self._arm(due_ms)
            return self._pump([], now_ms)
        return _NOTHING

    def _was_sent(self, message: MessageId) -> bool:
        """Tell whether a message to a topic is in flight here."""
        return self._cursors is not None and self._cursors.has_flight(message)

    def _save(self) -> Sequence[Action]:
        """Ask for the cursors to be stored, at the session's end."""
        since = self._since
        cursors = self.take_cursors()
        if self._since == since and self._cursors is not None:
            # What was passed over is stored now, so that the next session need not read it.
            cursors += [
                (topic.name, cursor)
                for topic in self._cursors
                if topic.name == BROADCAST and (cursor := self._cursors.cursor(topic)) > since
            ]
        return (SaveCursors(tuple(cursors)),) if cursors else _NOTHING

    def _taking_part(self, broadcast: Topic) -> Cursors | None:
        """Give the cursors, that of the broadcast log among them; None where none was given."""
        if self._since < 0:
            return None
        cursors = self._cursors
        if cursors is None:
            cursors = self._cursors = Cursors(self._profile)
        cursors.begin(broadcast, self._since)
        return cursors

    def _look(self, topic: Topic) -> bool:
        """Compare with what is known of a log; True where the session is behind."""
        cursors = self._cursors
        if topic.name == BROADCAST and topic.head > self._since:
            cursors = self._taking_part(topic)
        return cursors is not None and cursors.look(topic)

    def _moved(self, actions: Sequence[Action]) -> Sequence[Action]:
        """Tell the shard, once, that cursors are to be stored."""
        if self._announced or self._cursors is None or not self._cursors.is_dirty:
            return actions
        self._announced = True
        return (*actions, CursorsMoved())

    @override
    def _pump(self, actions: list[Action], now_ms: int) -> Sequence[Action]:
        super()._pump(actions, now_ms)
        cursors = self._cursors
        if cursors is None or not self._writable:
            return actions
        if cursors.due_ms <= now_ms or (cursors.is_short and self._room() > 0):
            for item in cursors.due(now_ms, self._limits.ack_timeout_ms, self._room()):
                self._limits.tally.redeliveries += 1
                actions.append(item.relay(self._dialect))
        self._arm(cursors.due_ms)
        if self._reading is None and now_ms >= self._retry_ms and self._room() > 0:
            wanted = cursors.next_read()
            if wanted is not None:
                self._reading, after = wanted
                actions.append(ReadTopic(self._reading.name, after))
        return actions

    @override
    def _move_deadlines(self, by_ms: int) -> None:
        super()._move_deadlines(by_ms)
        if self._cursors is not None:
            self._cursors.move_deadlines(by_ms)

    @override
    def _room(self) -> int:
        room = self._limits.window
        if self._flights:
            room -= len(self._flights)
        return room if self._cursors is None else room - self._cursors.in_flight

    def _relays(self, topic: Topic, items: Sequence[Item], now_ms: int) -> list[Action]:
        """Write these."""
        self._note_sent(topic, items, now_ms)
        return [item.relay(self._dialect) for item in items]

    def _note_sent(self, topic: Topic, items: Sequence[Item], now_ms: int) -> None:
        self._limits.tally.deliveries += len(items)
        counts, device = topic.counts, self.device or _NOBODY
        for item in items:
            counts.add(item, _SENT, device, now_ms)

    def _is_live(self) -> bool:
        return _LIVE <= self.state < _CLOSED

    def _ignores(self, cause: Input) -> bool:
        """Tell whether the session is closed; any other state must know the input."""
        if cause not in TRANSITIONS[self.state]:
            raise SessionError(f"{cause.value} in state {self.state.name}")
        return self.state is _CLOSED
