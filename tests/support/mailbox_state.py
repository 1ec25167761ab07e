"""The state behind the mailbox model, and the steps that its transitions share."""

import dataclasses

from router.model.device import Contact, Device
from router.model.hint import Route
from router.model.ids import (
    DeviceId,
    MessageId,
    Partition,
    ProjectId,
    ShardId,
    partition_of,
    told_as,
)
from router.model.mailbox import Ack, Enqueued, EnqueueResult, Envelope, Pending, Window
from router.model.receipt import Event, Receipt
from router.model.status import MessageStatus, TimelineEntry, furthest, in_order
from router.store.bridge_jobs import Head, Lane, Try


@dataclasses.dataclass
class Waiting:
    """A pending message."""

    seq: int
    message: MessageId
    expires_ms: int
    frame: bytes
    collapse_key: str
    not_before_ms: int = 0


@dataclasses.dataclass
class Box:
    """A registration and its route."""

    device: Device
    nonce: str
    hash: str
    epoch: int
    attached_ms: int = 0
    shard: ShardId | None = None
    seq: int = 0
    dropped: int = 0
    drops_known: int = 0
    contact: Contact | None = None

    def proofs(self) -> set[str]:
        """What an envelope may show to be let in."""
        return {self.nonce, f"u:{self.device.user}", f"ca:{self.device.created_ms}"}

    def route(self) -> Route | None:
        return None if self.shard is None else Route(self.shard, self.epoch)


@dataclasses.dataclass
class Record:
    """The status of a message."""

    project: ProjectId
    device: DeviceId
    created_ms: int
    expires_ms: int
    send_at_ms: int
    seq: int
    collapse_key: str
    frame: bytes = b""
    attempts: int = 0
    policy: str = ""
    """When a bridge takes over, as long as one may."""
    part: bytes = b""
    given_up: bool = False
    """Whether a bridge gave it up, and nobody asked for another try since."""
    alone: bool = False
    """Whether a bridge alone may carry it, whatever became of it since."""
    bridge_attempts: int = 0
    tries: tuple[Try, ...] = ()
    events: dict[Event, tuple[int, str]] = dataclasses.field(default_factory=dict)

    @property
    def only(self) -> bool:
        return self.policy.endswith("o")


class MailboxState:
    """Every mailbox, status, timer and event of a small world."""

    def __init__(self, *, max_pending: int = 1000, ack_timeout_ms: int = 15_000) -> None:
        self.outbox: list[Receipt] = []
        self.timers: dict[tuple[str, str], int] = {}
        self.queues: dict[tuple[Partition, Lane], dict[str, Head]] = {}
        self._max_pending = max_pending
        self._ack_timeout_ms = ack_timeout_ms
        self._boxes: dict[DeviceId, Box] = {}
        self._waiting: dict[DeviceId, list[Waiting]] = {}
        self._records: dict[MessageId, Record] = {}
        self._idempotency: dict[tuple[str, str, str], tuple[str, MessageId]] = {}
        self._upstream: set[tuple[DeviceId, str]] = set()

    @staticmethod
    def _place(envelope: Envelope) -> tuple[str, str, str]:
        return (envelope.partition, envelope.project, envelope.idempotency_key)

    def _refused(self, envelope: Envelope) -> Enqueued | None:
        message = envelope.message
        first = self._idempotency.get(self._place(envelope))
        if envelope.idempotency_key and first is not None:
            if first[0] != envelope.idempotency_digest:
                return Enqueued(EnqueueResult.KEY_REUSED, message)
            if first[1] != message:
                return Enqueued(EnqueueResult.REPEATED, first[1])
        box = self._boxes.get(envelope.device)
        if box is None or envelope.nonce not in box.proofs():
            return Enqueued(EnqueueResult.UNREGISTERED, message)
        if box.device.project != envelope.project:
            return Enqueued(EnqueueResult.SENDER_ID_MISMATCH, message)
        bridge = "" if box.contact is None else box.contact.bridge
        if bridge in envelope.unfit.split() and message not in self._records:
            return Enqueued(EnqueueResult.UNFIT, message, bridge=bridge)
        return None

    def _pending(self, device: DeviceId) -> list[Waiting]:
        return self._waiting.setdefault(device, [])

    def pending_count(self, device: DeviceId) -> int:
        """Tell how many messages a mailbox holds."""
        return len(self._pending(device))

    def seq_of(self, device: DeviceId, message: MessageId) -> int:
        """Give a message's number in its mailbox; 0 where it has none."""
        return self._seq_of(device, message)

    def drops(self, device: DeviceId) -> int:
        """Tell how many messages a mailbox has lost to the pending cap."""
        return self._boxes[device].dropped

    def token_nonce(self, device: DeviceId) -> str:
        """Give the nonce of a device's current token."""
        return self._boxes[device].nonce

    async def status(self, message: MessageId) -> MessageStatus | None:
        """Give what `Messages.status` gives."""
        if (record := self._records.get(message)) is None:
            return None
        first = Event.SCHEDULED if record.send_at_ms else Event.ACCEPTED
        entries = [TimelineEntry(first, record.created_ms)]
        entries += [
            TimelineEntry(event, time, detail) for event, (time, detail) in record.events.items()
        ]
        timeline = in_order(entries)
        return MessageStatus(
            message,
            record.project,
            record.device,
            "token",
            furthest(timeline),
            record.created_ms,
            record.expires_ms,
            record.send_at_ms,
            record.seq,
            record.collapse_key,
            record.attempts,
            timeline,
        )

    def _owned(self, device: DeviceId, project: ProjectId) -> Box | None:
        box = self._boxes.get(device)
        return box if box is not None and box.device.project == project else None

    def _session(self, device: DeviceId, epoch: int) -> Box | None:
        box = self._boxes.get(device)
        return box if box is not None and box.epoch == epoch else None

    def _seq_of(self, device: DeviceId, message: MessageId) -> int:
        record = self._records.get(message)
        return record.seq if record is not None and record.device == device else 0

    def _find(self, device: DeviceId, message: MessageId, seq: int) -> Waiting | None:
        for waiting in self._pending(device):
            if waiting.seq == seq and waiting.message == message:
                return waiting
        return None

    def _set_earlier(self, kind: str, subject: str, at_ms: int) -> None:
        place = (kind, subject)
        self.timers[place] = min(at_ms, self.timers.get(place, at_ms))

    def _settle(self, device: DeviceId) -> None:
        if not self._pending(device):
            self.timers.pop(("redeliver", device), None)
            self.timers.pop(("expire", device), None)

    def _emit(
        self,
        message: MessageId,
        event: Event,
        time_ms: int,
        *,
        accepted_ms: int = 0,
        detail: str = "",
    ) -> None:
        record = self._records[message]
        self.outbox.append(
            Receipt(
                record.project,
                told_as(message),
                record.device,
                event,
                time_ms,
                accepted_ms,
                detail,
            )
        )

    def _close(self, message: MessageId, event: Event, now_ms: int, detail: str) -> None:
        record = self._records[message]
        record.events[event] = (now_ms, detail)
        self._emit(message, event, now_ms, accepted_ms=record.created_ms, detail=detail)

    def _finish(
        self, device: DeviceId, waiting: Waiting, event: Event, now_ms: int, detail: str
    ) -> None:
        self._pending(device).remove(waiting)
        self._close(waiting.message, event, now_ms, detail)

    def _told_sent(self, message: MessageId, sent_ms: int) -> None:
        events = self._records[message].events
        if Event.SENT not in events:
            events[Event.SENT] = (sent_ms, "")
            self._emit(message, Event.SENT, sent_ms)

    def _enter(self, message: MessageId, record: Record, box: Box, now_ms: int) -> None:
        """Put an accepted message where it belongs."""
        once = record.created_ms == record.expires_ms
        if not once and not record.only:
            self._put(message, record, box, now_ms)
        if record.policy and box.contact is not None:
            self._bridge(message, record, box, now_ms)
            return
        only, record.policy = record.only, ""
        if record.seq:
            return
        if only:
            self._close(message, Event.FAILED, now_ms, "no bridge")
        elif box.shard is None:
            self._close(message, Event.EXPIRED, now_ms, "not connected")
        else:
            self.timers[("lapse", message)] = now_ms + self._ack_timeout_ms

    def _bridge(self, message: MessageId, record: Record, box: Box, now_ms: int) -> None:
        """Have a message handed to a bridge unless it is acked before."""
        at_ms = now_ms
        if box.shard is not None and not record.only:
            at_ms += int(record.policy.split("|")[1])
        if not record.seq:
            once = record.created_ms == record.expires_ms
            ends_ms = now_ms + self._ack_timeout_ms if once else record.expires_ms
            self.timers[("lapse", message)] = ends_ms
            if at_ms >= ends_ms:
                record.policy = ""
                return
        self.timers[("bridge", message)] = at_ms

    def _end_unheld(self, message: MessageId, event: Event, now_ms: int, detail: str) -> None:
        """End a message that no mailbox holds."""
        self.timers.pop(("lapse", message), None)
        record = self._records[message]
        record.policy, record.given_up = "", False
        if event is Event.BRIDGED or Event.FAILED not in record.events:
            self._close(message, event, now_ms, detail)

    @staticmethod
    def _partition(record: Record) -> Partition:
        return partition_of(record.device)

    def _put(self, message: MessageId, record: Record, box: Box, now_ms: int) -> None:
        device, pending = record.device, self._pending(record.device)
        box.seq += 1
        record.seq = box.seq
        for waiting in list(pending):
            if record.collapse_key and waiting.collapse_key == record.collapse_key:
                self._finish(device, waiting, Event.COLLAPSED, now_ms, "")
        if len(pending) >= self._max_pending:
            plain = [waiting for waiting in pending if not waiting.collapse_key]
            self._finish(device, (plain or pending)[0], Event.DROPPED, now_ms, "pending cap")
            box.dropped += 1
        pending.append(
            Waiting(box.seq, message, record.expires_ms, record.frame, record.collapse_key)
        )
        self._set_earlier("expire", device, record.expires_ms)
        if box.shard is not None:
            self._set_earlier("redeliver", device, now_ms + self._ack_timeout_ms)

    def _ack_one(self, device: DeviceId, ack: Ack, now_ms: int) -> bool:
        seq = ack.seq or self._seq_of(device, ack.message)
        if seq:
            waiting = self._find(device, ack.message, seq)
            if waiting is None:
                return False
            self._pending(device).remove(waiting)
        else:
            record = self._records.get(ack.message)
            if record is None or record.device != device:
                return False
            if self.timers.pop(("lapse", ack.message), None) is None:
                return False
        record = self._records[ack.message]
        if self._boxes[device].contact is not None:
            self.timers.pop(("bridge", ack.message), None)
            record.policy = ""
        if ack.sent_ms and Event.SENT not in record.events:
            record.attempts = 1
            self._told_sent(ack.message, ack.sent_ms)
        self._close(ack.message, Event.DELIVERED, now_ms, "")
        return True

    def _window(self, box: Box, after_seq: int, now_ms: int, limit: int) -> Window:
        device = box.device.id
        chosen: list[Waiting] = []
        for waiting in list(self._pending(device)):
            if waiting.seq <= after_seq or len(chosen) == limit:
                continue
            if waiting.expires_ms <= now_ms:
                self._finish(device, waiting, Event.EXPIRED, now_ms, "")
            elif waiting.not_before_ms <= now_ms:
                chosen.append(waiting)
        last = chosen[-1].seq if chosen else 0
        more = bool(chosen) and any(waiting.seq > last for waiting in self._pending(device))
        return Window(
            tuple(Pending(w.seq, told_as(w.message), w.expires_ms, w.frame) for w in chosen),
            box.seq,
            more,
            box.dropped,
        )
