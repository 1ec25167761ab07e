"""What bridges do to the mailbox model: jobs, queues, and what became of them."""

from collections.abc import Sequence

from router.model.device import Contact
from router.model.ids import DeviceId, MessageId, Partition, told_as
from router.model.receipt import Event, Receipt
from router.store.bridge_jobs import (
    Bridged,
    Failed,
    Head,
    Job,
    Lane,
    Later,
    Taken,
    Try,
)
from tests.support.mailbox_state import Box, MailboxState, Record

_TRIES = 5


class BridgeModel(MailboxState):
    """The transitions of jobs; `router.store.bridge_jobs` names them."""

    def set_contact(self, device: DeviceId, contact: Contact | None) -> None:
        """Say where a bridge reaches a device."""
        box = self._boxes[device]
        box.contact = contact
        if contact is None:
            self.timers.pop(("stale", device), None)
        else:
            self.timers[("stale", device)] = contact.stale_ms

    async def ready(self, kept: str, now_ms: int) -> tuple[Lane, Head] | None:
        message = MessageId(kept)
        found = self._job_of(message, now_ms)
        if found is not None and found[0].seq:
            waiting = self._find(found[0].device, message, found[0].seq)
            if waiting is not None and waiting.not_before_ms > now_ms:
                self.timers[("bridge", kept)] = waiting.not_before_ms
                return None
        self.timers.pop(("bridge", kept), None)
        if found is None:
            record = self._records.get(message)
            if record is not None and not self._is_given_up(record):
                record.policy = ""
            return None
        return self._queue(message, *found)

    async def take(
        self,
        partition: Partition,
        lane: Lane,
        worker: str,
        most: int,
        now_ms: int,
        hold_ms: int,
    ) -> Taken:
        del worker
        queue = self.queues.setdefault((partition, lane), {})
        jobs: list[Job] = []
        for kept, head in sorted(queue.items(), key=lambda one: (one[1], one[0]))[:most]:
            message = MessageId(kept)
            found = self._job_of(message, now_ms)
            del queue[kept]
            if found is None:
                if self._is_given_up(self._records.get(message)):
                    self.timers.pop(("bridge", kept), None)
                continue
            record, contact = found
            if contact.bridge != lane.bridge:
                self._queue(message, record, contact)
                continue
            self.timers[("bridge", kept)] = now_ms + hold_ms
            jobs.append(_job(message, record, contact, head))
        return Taken(jobs, min(queue.values(), default=None))

    async def bridged(self, partition: Partition, done: Sequence[Bridged]) -> None:
        del partition
        for one in done:
            record = self._open(MessageId(one.kept))
            if record is None:
                continue
            message = MessageId(one.kept)
            if not record.seq:
                self._end_unheld(message, Event.BRIDGED, one.now_ms, one.provider_id)
                continue
            record.policy, record.given_up = "", False
            record.events[Event.BRIDGED] = (one.now_ms, one.provider_id)
            self._emit(message, Event.BRIDGED, one.now_ms, detail=one.provider_id)

    async def later(self, partition: Partition, again: Sequence[Later], now_ms: int) -> None:
        del partition
        for one in again:
            record = self._open(MessageId(one.kept))
            if record is None:
                continue
            tried = Try(now_ms, one.reason)
            if not record.tries or record.tries[-1] != tried:
                record.tries = (*record.tries, tried)[-_TRIES:]
                record.bridge_attempts += one.counts
            self.timers[("bridge", one.kept)] = one.at_ms

    async def failed(self, partition: Partition, given_up: Sequence[Failed]) -> None:
        del partition
        for one in given_up:
            message = MessageId(one.kept)
            record = self._open(message)
            if record is None:
                continue
            once = record.created_ms == record.expires_ms
            if not record.seq and (once or not one.buried):
                self._end_unheld(message, Event.FAILED, one.now_ms, one.reason)
                continue
            record.given_up = True
            if Event.FAILED not in record.events:
                record.events[Event.FAILED] = (one.now_ms, one.reason)
                self._emit(message, Event.FAILED, one.now_ms, detail=one.reason)

    def is_for_bridges_alone(self, message: MessageId) -> bool:
        """Tell whether no socket may carry a message."""
        return self._records[message].alone

    def ended_without_a_mailbox(self, message: MessageId) -> bool:
        """Tell whether a bridge ended a message that no mailbox held."""
        record = self._records[message]
        return not record.seq and bool({Event.BRIDGED, Event.FAILED} & record.events.keys())

    def tries_of(self, kept: str) -> tuple[Try, ...]:
        """Give the last tries of a job."""
        return self._records[MessageId(kept)].tries

    async def again(self, kept: str, now_ms: int) -> bool:
        record = self._records.get(MessageId(kept))
        if record is None or not record.given_up or record.expires_ms <= now_ms:
            return False
        if not self._stands(MessageId(kept), record):
            return False
        record.bridge_attempts, record.tries, record.given_up = 0, (), False
        self.timers[("bridge", kept)] = now_ms
        return True

    async def drop_address(self, device: DeviceId, br: bytes, reason: str, now_ms: int) -> bool:
        box = self._boxes.get(device)
        if box is None or box.contact is None or box.contact.field.encode() != br:
            return False
        detail, project = f"{box.contact.bridge}|{reason}", box.device.project
        self.set_contact(device, None)
        if reason:
            end = Receipt(project, MessageId(""), device, Event.UNREGISTERED, now_ms, 0, detail)
            self.outbox.append(end)
        return True

    async def bridge_of(self, device: DeviceId) -> bytes:
        box = self._boxes.get(device)
        return b"" if box is None or box.contact is None else box.contact.field.encode()

    def _open(self, message: MessageId) -> Record | None:
        """Take the timer of a job; give its message where that still waits for a bridge."""
        self.timers.pop(("bridge", message), None)
        record = self._records.get(message)
        return record if record is not None and self._stands(message, record) else None

    def _stands(self, message: MessageId, record: Record) -> bool:
        if Event.BRIDGED in record.events:
            return False
        if not record.seq:
            return ("lapse", message) in self.timers
        return self._find(record.device, message, record.seq) is not None

    def _job_of(self, message: MessageId, now_ms: int) -> tuple[Record, Contact] | None:
        record = self._records.get(message)
        if record is None or not record.policy or record.given_up:
            return None
        if not self._stands(message, record):
            return None
        if record.created_ms != record.expires_ms and record.expires_ms <= now_ms:
            return None
        box = self._owned(record.device, record.project)
        if box is not None and box.contact is not None:
            return record, box.contact
        self._without_bridge(message, record, box, now_ms)
        return None

    @staticmethod
    def _is_given_up(record: Record | None) -> bool:
        return record is not None and record.given_up and Event.BRIDGED not in record.events

    def _without_bridge(
        self, message: MessageId, record: Record, box: Box | None, now_ms: int
    ) -> None:
        if record.seq:
            return
        if box is None:
            self._end_unheld(message, Event.DROPPED, now_ms, "unregistered")
        elif record.only:
            self._end_unheld(message, Event.FAILED, now_ms, "no bridge")

    def _queue(self, message: MessageId, record: Record, contact: Contact) -> tuple[Lane, Head]:
        lane = Lane(record.project, contact.bridge)
        head = Head(int(record.policy[0]), max(record.created_ms, record.send_at_ms))
        self.queues.setdefault((self._partition(record), lane), {}).setdefault(message, head)
        return lane, head


def _job(message: MessageId, record: Record, contact: Contact, head: Head) -> Job:
    return Job(
        message=told_as(message),
        kept=message,
        device=record.device,
        br=contact.field.encode(),
        address=contact.address,
        registered_ms=contact.registered_ms,
        frame=record.frame,
        part=record.part,
        attempts=record.bridge_attempts,
        seq=record.seq,
        lane=head.lane,
        ready_ms=head.since_ms,
    )
