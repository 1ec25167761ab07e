"""Mailboxes in memory: the same methods and results as `router.store.mailbox.Mailboxes`.

It is proven against the real functions by tests/store/test_mailbox_machine.py, so it may stand in
for the store in a simulation. Nothing in it is bounded by windows; mailboxes in tests are small.
"""

import json
from collections.abc import Mapping, Sequence

import msgspec

from router.model.device import NO_CONTACT, Contact, Device
from router.model.hint import Route
from router.model.ids import DeviceId, MessageId, ProjectId, ShardId, kept_as, told_as
from router.model.mailbox import (
    Ack,
    Attached,
    AttachResult,
    Enqueued,
    EnqueueResult,
    Envelope,
    Window,
)
from router.model.receipt import TERMINAL, Event, Receipt
from router.model.selection import Profile
from router.model.status import MessageStatus
from router.model.topic import Standing
from tests.support.bridge_model import BridgeModel
from tests.support.mailbox_state import Box, Record

_LATE_MS = 60_000


def _kept(device: DeviceId, acks: Sequence[Ack]) -> list[Ack]:
    return [Ack(kept_as(ack.message, device), ack.seq, ack.sent_ms) for ack in acks]


class MailboxModel(BridgeModel):
    """The transitions."""

    # Registrations

    async def register(
        self,
        device: Device,
        nonce: str,
        credential_hash: str,
        now_ms: int,
        bridge: Contact | None = None,
    ) -> bool:
        if (box := self._boxes.get(device.id)) is not None:
            return box.nonce == nonce and box.hash == credential_hash
        kept = msgspec.structs.replace(device, created_ms=now_ms)
        self._boxes[device.id] = Box(kept, nonce, credential_hash, now_ms)
        self.set_contact(device.id, bridge)
        return True

    async def device(self, device: DeviceId) -> Device | None:
        if (box := self._boxes.get(device)) is None:
            return None
        return msgspec.structs.replace(
            box.device,
            connected=box.shard is not None,
            pending=len(self._pending(device)),
            nonce=box.nonce,
            bridge=box.contact.bridge if box.contact else "",
            bridge_since_ms=box.contact.registered_ms if box.contact else 0,
        )

    async def update(
        self,
        device: DeviceId,
        project: ProjectId,
        changes: Mapping[str, str],
        now_ms: int,
        bridge: Contact | None = None,
    ) -> tuple[Device | None, Route | None]:
        if (box := self._owned(device, project)) is None:
            return None, None
        if bridge is not None:
            self.set_contact(device, None if bridge is NO_CONTACT else bridge)
        values: dict[str, object] = dict(changes)
        if "attributes" in changes:
            values["attributes"] = json.loads(changes["attributes"])
        box.device = msgspec.structs.replace(box.device, **values)
        if changes and box.shard is not None:
            self.timers[("topics", device)] = now_ms + self._ack_timeout_ms
        return await self.device(device), box.route() if changes else None

    async def rotate(
        self, device: DeviceId, project: ProjectId, nonce: str, now_ms: int
    ) -> tuple[bool, Route | None]:
        del now_ms
        if (box := self._owned(device, project)) is None:
            return False, None
        box.nonce = nonce
        return True, box.route()

    async def renew_credential(
        self, device: DeviceId, project: ProjectId, credential_hash: str
    ) -> bool:
        if (box := self._owned(device, project)) is None:
            return False
        box.hash = credential_hash
        return True

    async def credential_of(self, device: DeviceId) -> str | None:
        box = self._boxes.get(device)
        return None if box is None else box.hash

    async def unregister(
        self, device: DeviceId, project: ProjectId, now_ms: int
    ) -> tuple[bool, Route | None, bytes]:
        if (box := self._owned(device, project)) is None:
            return False, None, b""
        for waiting in list(self._pending(device)):
            self._finish(device, waiting, Event.DROPPED, now_ms, "unregistered")
        self.outbox.append(Receipt(project, MessageId(""), device, Event.UNREGISTERED, now_ms))
        self._settle(device)
        br = await self.bridge_of(device)
        self.set_contact(device, None)
        del self._boxes[device]
        return True, box.route(), br

    # Messages in

    async def enqueue(self, envelope: Envelope) -> Enqueued:
        if (refused := self._refused(envelope)) is not None:
            return refused
        message, device = envelope.message, envelope.device
        box = self._boxes[device]
        scheduled = envelope.send_at_ms > 0
        if (known := self._records.get(message)) is not None:
            only = envelope.bridge.endswith("o")
            route = None if scheduled or only else box.route()
            return Enqueued(EnqueueResult.ACCEPTED, message, known.seq, route)
        if envelope.idempotency_key:
            self._idempotency[self._place(envelope)] = (envelope.idempotency_digest, message)
        self._records[message] = record = Record(
            envelope.project,
            device,
            envelope.now_ms,
            envelope.expires_ms,
            envelope.send_at_ms,
            0,
            envelope.collapse_key,
            envelope.frame,
            policy=envelope.bridge,
            alone=envelope.bridge.endswith("o"),
            part=envelope.part if envelope.bridge else b"",
        )
        only = record.only
        if scheduled:
            self._emit(message, Event.SCHEDULED, envelope.now_ms)
            self.timers[("send", message)] = envelope.send_at_ms
            return Enqueued(EnqueueResult.ACCEPTED, message)
        self._emit(message, Event.ACCEPTED, envelope.now_ms)
        self._enter(message, record, box, envelope.now_ms)
        return Enqueued(EnqueueResult.ACCEPTED, message, record.seq, None if only else box.route())

    async def release(self, message: MessageId, now_ms: int) -> Enqueued | None:
        if self.timers.pop(("send", message), None) is None:
            return None
        record = self._records[message]
        box = self._owned(record.device, record.project)
        if box is None:
            self._close(message, Event.DROPPED, now_ms, "unregistered")
            return None
        once = record.created_ms == record.expires_ms
        if not once and record.expires_ms <= now_ms:
            self._close(message, Event.EXPIRED, now_ms, "")
            return None
        record.events[Event.ACCEPTED] = (now_ms, "")
        self._emit(message, Event.ACCEPTED, now_ms)
        only = record.only
        self._enter(message, record, box, now_ms)
        if not record.seq and ("lapse", message) not in self.timers:
            return None
        return Enqueued(
            EnqueueResult.ACCEPTED,
            told_as(message),
            record.seq,
            None if only else box.route(),
            record.device,
            now_ms if once else record.expires_ms,
            record.frame,
        )

    async def lapse(self, message: MessageId, now_ms: int) -> None:
        if self.timers.pop(("lapse", message), None) is not None:
            why = "not bridged" if self._records[message].only else "not acked"
            self._end_unheld(message, Event.EXPIRED, now_ms, why)

    async def cancel(
        self, message: MessageId, project: ProjectId, now_ms: int
    ) -> MessageStatus | None:
        record = self._records.get(message)
        if record is None or record.project != project:
            return None
        if self.timers.pop(("send", message), None) is not None:
            self._close(message, Event.CANCELLED, now_ms, "")
        elif (waiting := self._find(record.device, message, record.seq)) is not None:
            self._finish(record.device, waiting, Event.CANCELLED, now_ms, "")
            self._settle(record.device)
        elif record.policy and not record.seq and ("lapse", message) in self.timers:
            self._end_unheld(message, Event.CANCELLED, now_ms, "")
        return await self.status(message)

    # Sessions

    async def attach(
        self,
        device: DeviceId,
        credential_hash: str,
        shard: ShardId,
        now_ms: int,
        limit: int,
        app_version: str = "",
    ) -> Attached:
        if (box := self._boxes.get(device)) is None:
            return Attached(AttachResult.UNREGISTERED)
        if box.hash != credential_hash:
            return Attached(AttachResult.BAD_CREDENTIAL)
        if 0 < box.attached_ms - now_ms <= _LATE_MS:
            return Attached(AttachResult.OVERTAKEN)
        displaced = box.route()
        if displaced is not None:
            self.timers.pop(("topics", device), None)
        box.epoch += 1
        box.shard, box.attached_ms = shard, now_ms
        version = app_version or box.device.app_version
        box.device = msgspec.structs.replace(box.device, seen_ms=now_ms, app_version=version)
        window = self._window(box, 0, now_ms, limit)
        pending = len(self._pending(device))
        if pending:
            self._set_earlier("redeliver", device, now_ms + self._ack_timeout_ms)
        return Attached(
            AttachResult.ATTACHED,
            box.epoch,
            box.device.project,
            pending,
            box.nonce,
            window,
            displaced,
            box.drops_known,
            Standing(profile=_profile(box.device)),
        )

    async def fetch(
        self, device: DeviceId, epoch: int, after_seq: int, now_ms: int, limit: int
    ) -> Window | None:
        box = self._session(device, epoch)
        return None if box is None else self._window(box, after_seq, now_ms, limit)

    async def ack(
        self, device: DeviceId, epoch: int, acks: Sequence[Ack], now_ms: int, drops_known: int = 0
    ) -> None:
        if (box := self._session(device, epoch)) is None:
            return
        box.drops_known = max(box.drops_known, min(drops_known, box.dropped))
        done = False
        for ack in _kept(device, acks):
            done = self._ack_one(device, ack, now_ms) or done
        if done:
            self._settle(device)

    async def nack(
        self,
        device: DeviceId,
        epoch: int,
        message: MessageId,
        seq: int,
        reason: str,
        not_before_ms: int,
        now_ms: int,
    ) -> None:
        if self._session(device, epoch) is None:
            return
        message = kept_as(message, device)
        waiting = self._find(device, message, seq or self._seq_of(device, message))
        if waiting is None:
            return
        waiting.not_before_ms = not_before_ms
        self._set_earlier("redeliver", device, not_before_ms)
        self._records[message].events.setdefault(Event.NACKED, (now_ms, reason))
        self._emit(message, Event.NACKED, now_ms, detail=reason)

    async def mark_sent(
        self, device: DeviceId, epoch: int, acks: Sequence[Ack], now_ms: int
    ) -> None:
        del now_ms
        if self._session(device, epoch) is None:
            return
        for ack in _kept(device, acks):
            if (
                self._find(device, ack.message, ack.seq) is None
                if ack.seq
                else ("lapse", ack.message) not in self.timers
            ):
                continue
            self._records[ack.message].attempts += 1
            self._told_sent(ack.message, ack.sent_ms)

    async def engage(
        self,
        device: DeviceId,
        message: MessageId,
        event: Event,
        at_ms: int,
        detail: str,
        now_ms: int,
    ) -> bool:
        message = kept_as(message, device)
        record = self._records.get(message)
        if record is None or record.device != device or event in record.events:
            return False
        if (TERMINAL - {Event.DELIVERED}) & record.events.keys():
            return False
        if record.send_at_ms and Event.ACCEPTED not in record.events:
            return False
        if Event.DELIVERED not in record.events and Event.SENT not in record.events:
            record.attempts = 1
            self._told_sent(message, now_ms)
        record.events[event] = (at_ms, detail)
        self._emit(message, event, at_ms, detail=detail)
        return True

    async def upstream(
        self, device: DeviceId, epoch: int, identifier: str, data: bytes, now_ms: int
    ) -> bool:
        if (box := self._session(device, epoch)) is None:
            return False
        if (device, identifier) not in self._upstream:
            self._upstream.add((device, identifier))
            self.outbox.append(
                Receipt(
                    box.device.project,
                    MessageId(identifier),
                    device,
                    Event.UPSTREAM,
                    now_ms,
                    data=data,
                )
            )
        return True

    async def detach(self, device: DeviceId, epoch: int, now_ms: int) -> None:
        box = self._session(device, epoch)
        if box is None or box.shard is None:
            return
        box.shard = None
        box.device = msgspec.structs.replace(box.device, seen_ms=now_ms)
        self.timers.pop(("redeliver", device), None)

    async def remind(self, device: DeviceId, now_ms: int) -> Route | None:
        box = self._boxes.get(device)
        if box is None or box.shard is None:
            self.timers.pop(("topics", device), None)
            return None
        self.timers[("topics", device)] = now_ms + self._ack_timeout_ms
        return box.route()

    # Timers

    def due(self, now_ms: int) -> list[tuple[str, str]]:
        """List (kind, subject) of due timers, the most overdue first."""
        due = [(at, place) for place, at in self.timers.items() if at <= now_ms]
        return [place for _, place in sorted(due)]

    async def redeliver(self, device: DeviceId, now_ms: int) -> Route | None:
        box = self._boxes.get(device)
        pending = self._pending(device)
        if box is None or box.shard is None or not pending:
            self.timers.pop(("redeliver", device), None)
            return None
        later = [w.not_before_ms for w in pending if w.not_before_ms > now_ms]
        self.timers[("redeliver", device)] = min([now_ms + self._ack_timeout_ms, *later])
        return box.route() if len(later) < len(pending) else None

    async def expire(self, device: DeviceId, now_ms: int) -> int | None:
        for waiting in list(self._pending(device)):
            if waiting.expires_ms <= now_ms:
                self._finish(device, waiting, Event.EXPIRED, now_ms, "")
        if not (pending := self._pending(device)):
            self._settle(device)
            return None
        earliest = min(waiting.expires_ms for waiting in pending)
        self.timers[("expire", device)] = earliest
        return earliest


def _profile(device: Device) -> Profile:
    attributes = msgspec.json.encode(device.attributes).decode() if device.attributes else ""
    return Profile(device.platform, device.app_version, device.language, device.region, attributes)
