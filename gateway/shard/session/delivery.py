"""Which message goes out when: order, window, redelivery.

The seqs of one mailbox have no gaps. `cursor` is the last one dealt with, `head` the last one known
to exist. The message of a hint goes straight out if it is the very next one; otherwise, and
whenever the window or the socket is full, the mailbox is read as soon as there is room.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.shard.dialect import Dialect, Dropped
from gateway.shard.events import CRITICAL_ROOM, MAX_FETCH, Action, Fetch, Send, SessionLimits
from router.model.hint import Deliver
from router.model.ids import (
    DeviceId,
    MessageId,
    is_cast,
    is_topic_message,
    parse_message_id,
    partition_of,
    partition_of_message,
)
from router.model.lane import Lane
from router.model.mailbox import Ack, Pending, Window

_MAX_BACKOFF: Final = 3
"""The time to the next redelivery doubles so many times."""
_NOTHING: Final[tuple[Action, ...]] = ()


class Flight(msgspec.Struct, gc=False):
    """A message that the device has and has not acked."""

    seq: int
    sent_ms: int
    due_ms: int
    """When it is to be sent again."""
    told: bool = False
    """Whether the store knows that it was sent."""
    repeats: int = 0


class Notice(msgspec.Struct, frozen=True, gc=False):
    """A `dropped` frame that the device may not have heard."""

    drops: int
    """How many messages the device has lost, with those of this notice."""
    before: frozenset[MessageId]
    """What it was sent before the notice: an ack of these proves nothing."""


class Read(msgspec.Struct, frozen=True, gc=False):
    """A read of the mailbox under way, and the head that was known when it began."""

    after_seq: int
    head: int


class Delivery:
    """The mailbox as one session sees it.

    Args:
        dialect: how this device writes frames.
        limits: what all sessions of the shard share.
    """

    __slots__ = (
        "_cursor",
        "_dialect",
        "_drops",
        "_flights",
        "_head",
        "_held",
        "_limits",
        "_notice",
        "_read",
        "_rescan",
        "_retry_ms",
        "_settled",
        "_settled_ms",
        "_urgent",
        "_writable",
        "deadline_ms",
        "device",
    )

    def __init__(self, dialect: Dialect, limits: SessionLimits) -> None:
        self.deadline_ms = 0
        """When `on_timer` next wants a call. Any input may move it to an earlier time."""
        self.device: DeviceId | None = None
        self._dialect = dialect
        self._limits = limits
        self._writable = True
        self._cursor = 0
        self._head = 0
        self._read: Read | None = None
        self._rescan: int | None = None
        """From where the mailbox is to be read again for messages that are due once more."""
        self._retry_ms = 0
        self._drops = 0
        """Lost messages that the device was told of, since it registered."""
        self._notice: Notice | None = None
        self._flights: dict[MessageId, Flight] | None = None
        self._held: dict[MessageId, Flight] | None = None
        """Nacked messages until they are sent again."""
        self._settled: dict[MessageId, None] | None = None
        """Acked a moment ago: a read may still return them."""
        self._settled_ms = 0
        self._urgent = 0
        """The last critical message known to exist; until it is sent the window is wider."""

    @property
    def in_flight(self) -> int:
        """How many messages the device has and has not answered."""
        return len(self._flights) if self._flights else 0

    # Out.

    def _on_deliver(self, hint: Deliver, now_ms: int) -> Sequence[Action]:
        seq = hint.seq
        cursor = self._cursor
        room = self._room()
        if hint.lane is Lane.CRITICAL:
            room += CRITICAL_ROOM
            self._urgent = max(self._urgent, seq)
        if seq == cursor + 1 and self._head == cursor and self._writable and room > 0:
            self._cursor = self._head = seq
            if hint.expires_ms <= now_ms:
                return _NOTHING
            return (self._send(hint.message, seq, hint.frame, now_ms),)
        if seq == 0:
            return self._on_live(hint, room, now_ms)
        if seq <= self._head:
            return _NOTHING
        self._head = seq
        return self._pump([], now_ms)

    def _on_live(self, hint: Deliver, room: int, now_ms: int) -> Sequence[Action]:
        """Send a message with a TTL of 0: now, once, or never."""
        message = hint.message
        seen = message in (self._flights or ()) or message in (self._settled or ())
        late = now_ms - hint.expires_ms > self._limits.live_grace_ms
        if seen or late or not self._writable or room <= 0:
            return _NOTHING
        return (self._send(message, 0, hint.frame, now_ms),)

    def _send(self, message: MessageId, seq: int, frame: bytes, now_ms: int) -> Send:
        limits = self._limits
        if self._flights is None:
            self._flights = {}
        self._flights[message] = Flight(seq, now_ms, now_ms + limits.ack_timeout_ms)
        self._arm(now_ms + limits.sent_after_ms)
        limits.tally.deliveries += 1
        return Send(self._dialect.message(frame))

    def _take(
        self, window: Window, read: Read, now_ms: int, actions: list[Action]
    ) -> Sequence[Action]:
        """Send what a read of the mailbox brought, as far as there is room."""
        if window.dropped != self._drops:
            self._tell_drops(window.dropped, actions)
        last, refused = read.after_seq, False
        for pending in window.messages:
            if not self._offer(pending, now_ms, actions):
                last, refused = pending.seq - 1, True
                break
            last = pending.seq
        more = refused or (window.more and bool(window.messages))
        # What was known before the read and does not stand in it is gone, up to where it ends.
        end = last if more else max(window.head, read.head)
        self._forget_gone(read.after_seq, end, window, now_ms)
        if more:
            self._head = max(self._head, window.head)
            if last < self._cursor:
                self._want_from(last)
        elif self._head == read.head:
            # Nothing came in meanwhile: the store's word counts, even where a crash of the store
            # took its last second and numbers are given out again.
            self._head = self._cursor = window.head
        else:
            self._cursor = max(self._cursor, window.head)
        return self._pump(actions, now_ms)

    def _tell_drops(self, drops: int, actions: list[Action]) -> None:
        if drops > self._drops:
            actions.append(Send(self._dialect.encode(Dropped(drops - self._drops))))
            self._notice = Notice(drops, frozenset((*(self._flights or ()), *(self._held or ()))))
        # Less than before: a crash of the store took its last second.
        self._drops = drops

    def _heard(self, acks: Sequence[Ack]) -> int:
        """Tell of how many lost messages the device has heard, where these acks prove it.

        Frames come in order: who acks a message of this session has read what was written before.
        """
        notice = self._notice
        if notice is None or not any(ack.seq and ack.message not in notice.before for ack in acks):
            return 0
        self._notice = None
        return notice.drops

    def _offer(self, pending: Pending, now_ms: int, actions: list[Action]) -> bool:
        """Send a message if it is its turn; False where the socket or the window is full."""
        message, seq = pending.message, pending.seq
        flight = self._flights.get(message) if self._flights else None
        held = self._held.get(message) if self._held else None
        if pending.expires_ms <= now_ms or (self._settled and message in self._settled):
            pass
        elif flight is not None:
            if flight.due_ms <= now_ms:
                if not self._writable:
                    return False
                actions.append(self._repeat(flight, pending.frame, now_ms))
        elif held is not None and held.due_ms > now_ms:
            pass
        elif not self._writable or (seq > self._cursor and self._mail_room() <= 0):
            return False
        elif self._mail_room() > 0:
            actions.append(self._send(message, seq, pending.frame, now_ms))
            if held is not None and self._held is not None:
                del self._held[message]
                self._held = self._held or None
        self._cursor = max(self._cursor, seq)
        return True

    def _repeat(self, flight: Flight, frame: bytes, now_ms: int) -> Send:
        flight.repeats += 1
        wait_ms = self._limits.ack_timeout_ms << min(flight.repeats, _MAX_BACKOFF)
        flight.due_ms = now_ms + wait_ms
        self._arm(flight.due_ms)
        self._limits.tally.redeliveries += 1
        return Send(self._dialect.message(frame))

    def _forget_gone(self, after: int, last: int, window: Window, now_ms: int) -> None:
        """Drop what is due and was not in the mailbox: it expired, collapsed or was cancelled."""
        if self._flights is None and self._held is None:
            return
        found = {pending.message for pending in window.messages}

        def stays(message: MessageId, flight: Flight) -> bool:
            return flight.due_ms > now_ms or not after < flight.seq <= last or message in found

        self._flights = _kept(self._flights, stays)
        self._held = _kept(self._held, stays)

    def _review(self, now_ms: int) -> list[Ack]:
        """Look through what is in flight: give what is to be told as sent, note what is due."""
        limits = self._limits
        marks: list[Ack] = []
        for message, flight in list((self._flights or {}).items()):
            told_ms = flight.sent_ms + limits.sent_after_ms
            if not flight.told and told_ms <= now_ms:
                flight.told = True
                marks.append(Ack(message, flight.seq, flight.sent_ms))
            elif not flight.told:
                self._arm(told_ms)
            if flight.due_ms > now_ms:
                self._arm(flight.due_ms)
            elif flight.seq == 0 and self._flights is not None:
                del self._flights[message]
            else:
                self._want_again(flight, now_ms)
        self._flights = self._flights or None
        for flight in (self._held or {}).values():
            if flight.due_ms > now_ms:
                self._arm(flight.due_ms)
            else:
                self._want_again(flight, now_ms)
        return marks

    def _want_again(self, flight: Flight, now_ms: int) -> None:
        self._want_from(flight.seq - 1)
        self._arm(now_ms + self._limits.ack_timeout_ms)

    def _want_from(self, after_seq: int) -> None:
        self._rescan = after_seq if self._rescan is None else min(self._rescan, after_seq)

    def _forget_settled(self, now_ms: int) -> None:
        if self._settled is None:
            return
        until_ms = self._settled_ms + self._limits.settle_ms
        if until_ms <= now_ms:
            self._settled = None
        else:
            self._arm(until_ms)

    def _pump(self, actions: list[Action], now_ms: int) -> Sequence[Action]:
        """Read the mailbox if something waits there and there is room for it."""
        if self._read is not None or not self._writable or now_ms < self._retry_ms:
            return actions
        if self._rescan is not None:
            after_seq, limit = self._rescan, MAX_FETCH
            self._rescan = None
        elif self._head > self._cursor and (room := self._mail_room()) > 0:
            after_seq, limit = self._cursor, min(room, MAX_FETCH)
        else:
            return actions
        self._read = Read(after_seq, self._head)
        actions.append(Fetch(after_seq, limit))
        return actions

    def _room(self) -> int:
        flights = self._flights
        return self._limits.window - len(flights) if flights else self._limits.window

    def _mail_room(self) -> int:
        """Give the room for the mailbox: more while a critical one waits there, behind others."""
        room = self._room()
        return room + CRITICAL_ROOM if self._urgent > self._cursor else room

    def _arm(self, at_ms: int) -> None:
        self.deadline_ms = min(self.deadline_ms, at_ms)

    def _move_deadlines(self, by_ms: int) -> None:
        self.deadline_ms += by_ms
        self._retry_ms += by_ms
        for flight in (self._flights or {}).values():
            flight.due_ms += by_ms

    def _hold(self, message: MessageId, flight: Flight) -> None:
        if self._held is None:
            self._held = {}
        self._held[message] = flight
        self._arm(flight.due_ms)
        # The store keeps the time too; this memory only saves reads.
        if len(self._held) > self._limits.max_settled:
            del self._held[next(iter(self._held))]

    # In.

    def _settle(self, ids: Sequence[str], now_ms: int) -> list[Ack]:
        """Take what the device acked; give what the store is to be told."""
        flights = self._flights
        settled = self._settled
        if settled is None:
            settled = self._settled = {}
            self._arm(now_ms + self._limits.settle_ms)
        self._settled_ms = now_ms
        acks: list[Ack] = []
        for text in ids:
            message = MessageId(text)
            if message in settled:
                continue
            flight = flights.pop(message, None) if flights else None
            if flight is None and (flight := self._unexpected(message)) is None:
                continue
            settled[message] = None
            acks.append(Ack(message, flight.seq, 0 if flight.told else flight.sent_ms))
        if not flights:
            self._flights = None
        while len(settled) > self._limits.max_settled:
            del settled[next(iter(settled))]
        return acks

    def _unexpected(self, message: MessageId) -> Flight | None:
        """Give what is known of a message that is not in flight: nacked, or of an older session."""
        if self._held is not None and (held := self._held.pop(message, None)) is not None:
            self._held = self._held or None
            return held
        return Flight(seq=0, sent_ms=0, due_ms=0) if self._owns(message) else None

    def _owns(self, message: MessageId) -> bool:
        """Tell whether the message can be this device's: it stands in the device's partition.

        Of a message to a user or a group every device may have a copy.
        """
        device = self.device
        if device is None or parse_message_id(message) is None or is_topic_message(message):
            return False
        return is_cast(message) or partition_of_message(message) == partition_of(device)

    def _refused(self, message: MessageId, due_ms: int) -> Flight | None:
        """Keep a nacked message back until `due_ms`; None for one that cannot be the device's."""
        flights = self._flights or {}
        flight = flights.get(message)
        if flight is not None and not flight.seq:
            # A TTL of 0 does not come again. It is kept in mind, for its hint might.
            return flight
        flights.pop(message, None)
        self._flights = flights or None
        flight = flight or self._unexpected(message)
        if flight is not None:
            flight.due_ms = due_ms
            if flight.seq:
                self._hold(message, flight)
        return flight


def _kept(
    flights: dict[MessageId, Flight] | None, stays: Callable[[MessageId, Flight], bool]
) -> dict[MessageId, Flight] | None:
    if flights is None:
        return None
    return {
        message: flight for message, flight in flights.items() if stays(message, flight)
    } or None
