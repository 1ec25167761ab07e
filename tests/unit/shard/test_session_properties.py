"""A session between a mailbox and a device that do whatever they may: what always holds.

Order per device, the window, expiry, pauses, one read at a time; and in the end all arrives.
"""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from gateway.shard.events import CRITICAL_ROOM, Acked, Action, Fetch, Nacked, Sent, State
from router.model.hint import Deliver, Wake
from router.model.lane import Lane
from router.model.mailbox import Pending, Window
from tests.unit.shard.driver import DEVICE, EPOCH, NUMBERS, Lead, frame, message, of, sent

pytestmark = pytest.mark.slow

WINDOW = 3
GRACE_MS = 3_000
ACK_TIMEOUT_MS = 15_000
STORE_MS = 2_000
"""How long a read may take."""
MAX_READS = 40
"""Reads in a row without anything else happening: more would be a loop."""


@dataclasses.dataclass
class Kept:
    """A message, by its number, and what became of it. A TTL of 0 has no seq."""

    seq: int
    expires_ms: int
    sent_ms: list[int] = dataclasses.field(default_factory=list)
    marked: int = 0
    acked: bool = False
    may_repeat: bool = False
    """Nacked since it was sent last."""
    not_before_ms: int = 0


class Mailbox:
    """What the store holds, and the reads and hints on their way."""

    def __init__(self) -> None:
        self.head = 0
        self.waiting: dict[int, Kept] = {}
        self.told: list[Action] = []
        self.dropped = 0

    def flush(self) -> None:
        """Take what the session told."""
        for action in self.told:
            if isinstance(action, Acked):
                for ack in action.acks:
                    self.waiting.pop(NUMBERS[ack.message], None)
            elif isinstance(action, Nacked) and (kept := self.waiting.get(NUMBERS[action.message])):
                kept.not_before_ms = action.not_before_ms
        self.told.clear()

    def read(self, fetch: Fetch, now_ms: int) -> Window:
        """Give what is due behind a seq."""
        self.flush()
        self.waiting = {
            number: kept for number, kept in self.waiting.items() if kept.expires_ms > now_ms
        }
        behind = [
            Pending(kept.seq, message(number), kept.expires_ms, frame(number))
            for number, kept in self.waiting.items()
            if kept.seq > fetch.after_seq and kept.not_before_ms <= now_ms
        ]
        brought = tuple(behind[: fetch.limit])
        last = brought[-1].seq if brought else 0
        more = bool(brought) and any(kept.seq > last for kept in self.waiting.values())
        return Window(brought, self.head, more, self.dropped)


class Between(RuleBasedStateMachine):
    """What can happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.lead = Lead(window=WINDOW, heartbeat_ms=900_000).live()
        self.mailbox = Mailbox()
        self.all: dict[int, Kept] = {}
        self.hints: list[Deliver] = []
        self.reading: Fetch | None = None
        self.read: Window | None = None
        self.reading_since_ms = 0
        self.reads = 0
        self.first_seq = 0
        self.writable = True
        self.sound = True
        """Nothing was found wrong so far."""

    # What the session does.

    def carry_out(self, actions: Sequence[Action]) -> None:
        self.sound = False
        now_ms = self.lead.now_ms
        self.lead.session.on_alive(now_ms)
        for number in sent(actions):
            self.check_sent(number, now_ms)
        for fetch in of(Fetch, actions):
            assert self.reading is None, "one read at a time"
            assert self.writable
            assert 0 < fetch.limit <= 128
            self.reading, self.read, self.reading_since_ms = fetch, None, now_ms
            self.reads += 1
            assert self.reads < MAX_READS, "it reads over and over"
        for marks in of(Sent, actions):
            for mark in marks.acks:
                kept = self.all[NUMBERS[mark.message]]
                kept.marked += 1
                assert mark.sent_ms in kept.sent_ms
                assert kept.marked <= len(kept.sent_ms)
        self.mailbox.told += [action for action in actions if isinstance(action, Acked | Nacked)]

    def check_sent(self, number: int, now_ms: int) -> None:
        kept = self.all[number]
        assert self.writable, "nothing is sent into a full socket"
        assert not kept.acked, "what is acked is done with"
        assert kept.not_before_ms <= now_ms, "a nack's pause is kept"
        if not kept.seq:
            assert now_ms - kept.expires_ms <= GRACE_MS, "now or never"
            assert not kept.sent_ms, "once"
        else:
            assert now_ms < kept.expires_ms, "nothing is sent after its expiry"
        if kept.sent_ms and not kept.may_repeat:
            assert now_ms - kept.sent_ms[-1] >= ACK_TIMEOUT_MS, "not before the ack time-out"
        if kept.seq and not kept.sent_ms:
            assert kept.seq > self.first_seq, "in order"
            self.first_seq = kept.seq
        kept.sent_ms.append(now_ms)
        kept.may_repeat = False

    def unanswered(self) -> list[int]:
        return [
            number
            for number, kept in self.all.items()
            if kept.sent_ms and not kept.acked and not kept.may_repeat
        ]

    # What happens.

    @rule(
        ttl_ms=st.sampled_from([0, 1_000, 20_000, 3_600_000, 3_600_000]),
        lost=st.booleans(),
        lane=st.sampled_from([Lane.NORMAL, Lane.NORMAL, Lane.CRITICAL]),
    )
    def enqueue(self, ttl_ms: int, lost: bool, lane: Lane) -> None:
        number = len(self.all) + 1
        expires_ms = self.lead.now_ms + ttl_ms
        kept = self.all[number] = Kept(0, expires_ms)
        if ttl_ms:
            self.mailbox.head += 1
            kept.seq = self.mailbox.head
            self.mailbox.waiting[number] = kept
        if not lost:
            hint = Deliver(
                DEVICE, EPOCH, kept.seq, message(number), expires_ms, frame(number), lane
            )
            self.hints.append(hint)

    @precondition(lambda self: self.hints)
    @rule(data=st.data(), again=st.booleans())
    def hint(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, min(2, len(self.hints) - 1)))
        hint = self.hints[at] if again else self.hints.pop(at)
        self.carry_out(self.lead.session.on_hint(hint, self.lead.now_ms))

    @rule(epoch=st.sampled_from([EPOCH, EPOCH, EPOCH - 1]))
    def wake(self, epoch: int) -> None:
        self.carry_out(self.lead.session.on_hint(Wake(DEVICE, epoch), self.lead.now_ms))

    @precondition(lambda self: self.reading is not None and self.read is None)
    @rule()
    def the_store_reads(self) -> None:
        assert self.reading is not None
        self.read = self.mailbox.read(self.reading, self.lead.now_ms)

    @precondition(lambda self: self.reading is not None)
    @rule()
    def the_store_answers(self) -> None:
        if self.read is None:
            self.the_store_reads()
        assert self.read is not None
        self.reading = None
        self.carry_out(self.lead.fetched(self.read))

    @precondition(lambda self: self.reading is not None)
    @rule()
    def the_store_is_away(self) -> None:
        self.reading = self.read = None
        self.carry_out(self.lead.away())

    @precondition(lambda self: self.unanswered())
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        numbers = data.draw(st.lists(st.sampled_from(self.unanswered()), min_size=1, max_size=3))
        self.ack_all(numbers)

    def ack_all(self, numbers: Sequence[int]) -> None:
        self.reads = 0
        for number in numbers:
            self.all[number].acked = True
        self.carry_out(self.lead.ack(*numbers))

    @precondition(lambda self: self.unanswered())
    @rule(data=st.data(), retry_after=st.sampled_from([0, 5, 20]))
    def nack(self, data: st.DataObject, retry_after: int) -> None:
        number = data.draw(st.sampled_from(self.unanswered()))
        kept = self.all[number]
        kept.may_repeat = True
        kept.not_before_ms = self.lead.now_ms + max(retry_after, 1) * 1000
        self.reads = 0
        self.carry_out(self.lead.nack(number, retry_after=retry_after))

    @precondition(lambda self: self.mailbox.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.mailbox.waiting)))
        del self.mailbox.waiting[number]
        self.mailbox.dropped += 1

    @rule(writable=st.booleans())
    def socket(self, writable: bool) -> None:
        self.writable = writable
        self.carry_out(self.lead.writable(writable))

    @rule(duration_ms=st.sampled_from([1, 400, 1_000, 5_000, 15_000, 40_000]))
    def later(self, duration_ms: int) -> None:
        self.reads = 0
        end_ms = self.lead.now_ms + duration_ms
        if self.reading is not None and end_ms - self.reading_since_ms > STORE_MS:
            self.the_store_is_away()
        session = self.lead.session
        while (due_ms := session.deadline_ms) <= end_ms:
            self.lead.now_ms = max(self.lead.now_ms, due_ms)
            self.carry_out(session.on_timer(self.lead.now_ms))
            assert session.deadline_ms > self.lead.now_ms, "a timer that has run is not due"
        self.lead.now_ms = end_ms

    # What always holds.

    @invariant()
    def no_more_is_in_flight_than_the_window_and_what_critical_ones_may_take(self) -> None:
        assert self.lead.session.in_flight <= WINDOW + CRITICAL_ROOM

    @invariant()
    def the_session_lives(self) -> None:
        assert self.lead.session.state is State.LIVE

    def answer_all(self) -> None:
        while self.reading is not None:
            self.the_store_answers()

    @override
    def teardown(self) -> None:
        """Faults end: whatever still waits arrives."""
        if not self.sound:
            return
        self.hints.clear()
        self.reads = 0
        self.socket(writable=True)
        for _ in range(60):
            if not self.mailbox.waiting:
                break
            self.answer_all()
            self.ack_all(self.unanswered())
            self.answer_all()
            self.later(1_000)
            self.wake(EPOCH)
            self.mailbox.flush()
        assert not self.mailbox.waiting, "all that waits arrives"


Between.TestCase.settings = settings(stateful_step_count=60)
TestSession = Between.TestCase
