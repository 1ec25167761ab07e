"""Mailboxes: every transition of a message's life, each one atomic server function.

Before: `router.send`, `router.acks`, `router.redelivery`, the shards' sessions. After:
`lua/<function>.lua`, one file a transition, whose header tells keys, arguments, events, invariant.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from router.model.hint import Route
from router.model.ids import (
    DeviceId,
    MessageId,
    ProjectId,
    ShardId,
    kept_as,
    partition_of,
    partition_of_message,
    told_as,
)
from router.model.mailbox import (
    Ack,
    Attached,
    AttachResult,
    Enqueued,
    EnqueueResult,
    Envelope,
    Window,
)
from router.model.receipt import Event
from router.model.status import MessageStatus
from router.policy.limits import WINDOW
from router.store import keys
from router.store.connection import Store
from router.store.devices import Devices, optional_route, route, text
from router.store.link import Reply, fields
from router.store.mailbox_parts import (
    ack_part,
    ack_triples,
    enqueue_part,
    idempotency_key,
    terms,
)
from router.store.messages import device_of, read_status
from router.store.subscriptions import read_standing
from router.store.windows import read_window

_REFUSALS: Final = {
    -1: EnqueueResult.UNREGISTERED,
    -2: EnqueueResult.SENDER_ID_MISMATCH,
    -3: EnqueueResult.KEY_REUSED,
}
_REPEATED: Final = -4
_THROTTLED: Final = -5
_UNFIT: Final = -6
_OVERTAKEN: Final = -2
"""What `attach` answers."""


class Mailboxes(Devices):
    """Messages in mailboxes, on top of the registrations.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._enqueue = self._function("enqueue")
        self._ack = self._function("ack")

    async def enqueue(self, envelope: Envelope, *, urgent: bool = False) -> Enqueued:
        """Accept a message; with `send_at_ms` it enters the mailbox when `release` is called."""
        return self.enqueued(envelope, await self.begin_enqueue(envelope, urgent=urgent))

    @staticmethod
    def enqueued(envelope: Envelope, reply: Reply) -> Enqueued:
        """Read what `begin_enqueue` was answered."""
        return _enqueued(envelope.message, fields(reply))

    def begin_enqueue(self, envelope: Envelope, *, urgent: bool = False) -> asyncio.Future[Reply]:
        """Begin `enqueue`: a task for each message of a batch would cost more than its call.

        An urgent one leaves before all that wait and are not.
        """
        if envelope.send_at_ms:
            return self._begin_schedule(envelope, urgent=urgent)
        partition = envelope.partition
        return self._store.batch.gather(
            self._enqueue,
            (keys.timers(partition), keys.outbox(partition)),
            (self._max_pending, self._ack_timeout_ms, self._retention_ms),
            enqueue_part(envelope),
            urgent=urgent,
        )

    def _begin_schedule(self, envelope: Envelope, *, urgent: bool) -> asyncio.Future[Reply]:
        device, partition = envelope.device, envelope.partition
        return self._store.batch.fcall(
            self._function("schedule"),
            (
                keys.mailbox(device),
                keys.timers(partition),
                keys.outbox(partition),
                keys.message(envelope.message),
                *idempotency_key(envelope),
            ),
            (
                envelope.message,
                device,
                envelope.project,
                envelope.nonce,
                envelope.now_ms,
                envelope.expires_ms,
                envelope.collapse_key,
                envelope.frame,
                envelope.send_at_ms,
                self._retention_ms,
                *terms(envelope),
            ),
            urgent=urgent,
        )

    async def forget_status(self, message: MessageId) -> None:
        """Drop what is known of a message that ended, for one that nobody will ask for."""
        await self._store.batch.call("UNLINK", keys.message(message))

    async def release(self, message: MessageId, now_ms: int) -> Enqueued | None:
        """Move a scheduled message into its mailbox; None where nothing entered it."""
        device = await self._device_of(message)
        if device is None:
            await self._forget_timer(message)
            return None
        reply = fields(
            await self._store.batch.fcall(
                self._function("release"),
                (*keys.of_device(device), keys.message(message)),
                (message, now_ms, self._max_pending, self._ack_timeout_ms, self._retention_ms),
            )
        )
        if not reply:
            return None
        return Enqueued(
            EnqueueResult.ACCEPTED,
            told_as(message),
            seq=cast("int", reply[0]),
            route=optional_route(reply, 4),
            device=device,
            expires_ms=cast("int", reply[2]),
            frame=cast("bytes", reply[3]),
        )

    async def attach(
        self,
        device: DeviceId,
        credential_hash: str,
        shard: ShardId,
        now_ms: int,
        limit: int,
        app_version: str = "",
    ) -> Attached:
        """Begin a session; it displaces an older one.

        `now_ms` is when the device asked for it. One that was asked for before the last one that
        was attached is refused as overtaken: what waited in a slow shard must not displace the
        connection that the device made since. An `app_version` is the device's from then on.
        """
        reply = fields(
            await self._store.batch.fcall(
                self._function("attach"),
                keys.of_device(device),
                (
                    device,
                    credential_hash,
                    shard,
                    now_ms,
                    limit,
                    self._ack_timeout_ms,
                    self._retention_ms,
                    app_version,
                ),
            )
        )
        if reply[0] == 0:
            return Attached(AttachResult.UNREGISTERED)
        if reply[0] == -1:
            return Attached(AttachResult.BAD_CREDENTIAL)
        if reply[0] == _OVERTAKEN:
            return Attached(AttachResult.OVERTAKEN)
        epoch, project, nonce, pending, shard_before, epoch_before, drops_known, *rest = reply
        profile, topics, *window = rest
        return Attached(
            AttachResult.ATTACHED,
            epoch=cast("int", epoch),
            project=ProjectId(text(project)),
            pending=cast("int", pending),
            token_nonce=text(nonce),
            window=read_window(window),
            displaced=route(shard_before, epoch_before) if shard_before else None,
            drops_known=cast("int", drops_known),
            standing=read_standing(profile, topics),
        )

    async def fetch(
        self, device: DeviceId, epoch: int, after_seq: int, now_ms: int, limit: int
    ) -> Window | None:
        """Read what is due behind `after_seq`; None where the epoch is stale."""
        reply = await self._store.batch.fcall(
            self._function("fetch"),
            keys.of_device(device),
            (device, epoch, after_seq, now_ms, limit, self._retention_ms),
        )
        return None if reply is None else read_window(fields(reply))

    async def ack(
        self, device: DeviceId, epoch: int, acks: Sequence[Ack], now_ms: int, drops_known: int = 0
    ) -> None:
        """Take acked messages out of the mailbox. Acks of a stale epoch change nothing.

        `drops_known` is of how many messages lost to the pending cap, since it registered, the
        device has heard; 0 for nothing new.
        """
        for start in range(0, len(acks), WINDOW):
            window = acks[start : start + WINDOW]
            await self.begin_ack(device, epoch, window, now_ms, drops_known)

    def begin_ack(
        self, device: DeviceId, epoch: int, window: Sequence[Ack], now_ms: int, drops_known: int = 0
    ) -> asyncio.Future[Reply]:
        """Begin `ack` of at most `WINDOW` messages: a task would cost as much as the call."""
        partition = partition_of(device)
        return self._store.batch.gather(
            self._ack,
            (keys.timers(partition), keys.outbox(partition)),
            (self._retention_ms,),
            ack_part(device, epoch, window, now_ms, drops_known),
            len(window),
        )

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
        """Keep a message back until `not_before_ms`."""
        message = kept_as(message, device)
        await self._store.batch.fcall(
            self._function("nack"),
            (*keys.of_device(device), keys.message(message)),
            (device, epoch, message, seq, reason, not_before_ms, now_ms),
        )

    async def mark_sent(
        self, device: DeviceId, epoch: int, acks: Sequence[Ack], now_ms: int
    ) -> None:
        """Note that messages were written to the socket at their `sent_ms`."""
        del now_ms
        mailbox, index, _, timers, outbox = keys.of_device(device)
        for start in range(0, len(acks), WINDOW):
            group = acks[start : start + WINDOW]
            await self._store.batch.fcall(
                self._function("mark_sent"),
                (
                    *(mailbox, index, timers, outbox),
                    *(keys.message(kept_as(ack.message, device)) for ack in group),
                ),
                (device, epoch, *ack_triples(device, group)),
            )

    async def engage(
        self,
        device: DeviceId,
        message: MessageId,
        event: Event,
        at_ms: int,
        detail: str,
        now_ms: int,
    ) -> bool:
        """Note an engagement; True the first time that it is told."""
        message = kept_as(message, device)
        return bool(
            await self._store.batch.fcall(
                self._function("engage"),
                (keys.outbox(partition_of_message(message)), keys.message(message)),
                (device, message, event.value, at_ms, detail, now_ms),
            )
        )

    async def upstream(
        self, device: DeviceId, epoch: int, identifier: str, data: bytes, now_ms: int
    ) -> bool:
        """Take a message to the app server, once per id; False where the epoch is stale."""
        partition = partition_of(device)
        return bool(
            await self._store.batch.fcall(
                self._function("upstream"),
                (
                    keys.mailbox(device),
                    keys.outbox(partition),
                    keys.upstream(device, identifier),
                ),
                (device, epoch, identifier, data, now_ms, self._retention_ms),
            )
        )

    async def detach(self, device: DeviceId, epoch: int, now_ms: int) -> None:
        """End a session; nothing happens where a newer one stands."""
        await self._store.batch.fcall(
            self._function("detach"),
            (keys.mailbox(device), keys.timers(partition_of(device))),
            (device, epoch, now_ms),
        )

    async def redeliver(self, device: DeviceId, now_ms: int) -> Route | None:
        """Give the session to wake because unacked messages wait; sets the timer anew."""
        mailbox, index, frames, timers, _ = keys.of_device(device)
        reply = fields(
            await self._store.batch.fcall(
                self._function("redeliver"),
                (mailbox, index, frames, timers),
                (device, now_ms, self._ack_timeout_ms),
            )
        )
        return optional_route(reply, 0)

    async def remind(self, device: DeviceId, now_ms: int) -> Route | None:
        """Give the session that has not read a change of its device's topics."""
        reply = await self._store.batch.fcall(
            self._function("remind"),
            (keys.mailbox(device), keys.timers(partition_of(device))),
            (device, now_ms, now_ms + self._ack_timeout_ms),
        )
        return optional_route(fields(reply), 0)

    async def lapse(self, message: MessageId, now_ms: int) -> None:
        """End a message with a TTL of 0 that was not acked."""
        partition = partition_of_message(message)
        await self._store.batch.fcall(
            self._function("lapse"),
            (keys.timers(partition), keys.outbox(partition), keys.message(message)),
            (message, now_ms, self._retention_ms),
        )

    async def cancel(
        self, message: MessageId, project: ProjectId, now_ms: int
    ) -> MessageStatus | None:
        """Withdraw a message that waits, and give its status; None where it is not known."""
        device = await self._device_of(message)
        if device is None:
            return None
        return read_status(message, await self.begin_cancel(message, device, project, now_ms))

    def begin_cancel(
        self, message: MessageId, device: DeviceId, project: ProjectId, now_ms: int
    ) -> asyncio.Future[Reply]:
        """Begin to withdraw a message from one mailbox: of many devices, all at once."""
        kept = kept_as(message, device)
        return self._store.batch.fcall(
            self._function("cancel"),
            (*keys.of_device(device), keys.message(kept)),
            (kept, project, now_ms, self._retention_ms),
        )

    async def _device_of(self, message: MessageId) -> DeviceId | None:
        return device_of(await self._store.batch.call("HGET", keys.message(message), "i"))

    async def _forget_timer(self, message: MessageId) -> None:
        timers = keys.timers(partition_of_message(message))
        await self._store.batch.call("ZREM", timers, f"send:{message}")


def _enqueued(message: MessageId, reply: list[Reply]) -> Enqueued:
    seq = cast("int", reply[0])
    if seq >= 0:
        return Enqueued(EnqueueResult.ACCEPTED, message, seq, optional_route(reply, 1))
    if seq == _REPEATED:
        return Enqueued(EnqueueResult.REPEATED, MessageId(text(reply[1])))
    if seq == _THROTTLED:
        return Enqueued(EnqueueResult.THROTTLED, message, wait_us=cast("int", reply[1]))
    if seq == _UNFIT:
        return Enqueued(EnqueueResult.UNFIT, message, bridge=text(reply[1]))
    return Enqueued(_REFUSALS[seq], message)
