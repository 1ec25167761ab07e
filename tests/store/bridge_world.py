"""A device with a bridge over a real store, and the worker of its partition."""

import os
from typing import Any

from router.model.device import Contact, Device
from router.model.ids import (
    ENTROPY_BYTES,
    MessageId,
    ProjectId,
    ShardId,
    new_device_id,
    new_message_id,
    partition_of,
)
from router.model.mailbox import Ack, Enqueued, Envelope
from router.policy.delivery import replay
from router.store import keys
from router.store.bridge_jobs import BridgeJobs, Job, Lane, Taken
from router.store.connection import Store
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.messages import Messages
from router.store.timers import Timers
from tests.support.leases import own

NOW = 1_800_000_000_000
AFTER = 10_000
ACK_MS = 15_000
WORKER, BRIDGE = "bridge-worker", "apns"
ADDRESS = '{"token":"ab|cd"}'
NONCE = "n" * 16


class World:
    """One device of a project of its own, and the worker of its partition."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.mailboxes, self.jobs = Mailboxes(store), BridgeJobs(store)
        self.messages, self.timers = Messages(store), Timers(store)
        self.leases = Leases(store)
        self.project = ProjectId(f"p-{new_device_id(os.urandom(10))}")
        self.device = new_device_id(os.urandom(ENTROPY_BYTES))
        self.partition = partition_of(self.device)
        self.lane = Lane(self.project, BRIDGE)
        self.epoch = 0

    async def register(self, *, bridge: str = BRIDGE) -> None:
        contact = Contact(bridge, ADDRESS, NOW - 5, NOW + 5) if bridge else None
        device = Device(self.device, self.project, "ios")
        assert await self.mailboxes.register(device, NONCE, "h", 1, contact)
        await own(self.store, self.partition, WORKER)

    async def connect(self) -> None:
        shard = ShardId("bridge-shard")
        self.epoch = (await self.mailboxes.attach(self.device, "h", shard, NOW, 10)).epoch

    def message(self) -> MessageId:
        return new_message_id(self.partition, NOW, os.urandom(ENTROPY_BYTES))

    async def send(
        self, bridge: str = f"2|{AFTER}", ttl_ms: int = 60_000, **fields: Any
    ) -> Enqueued:
        given: dict[str, Any] = {"message": self.message(), "part": b"part", **fields}
        envelope = Envelope(
            project=self.project,
            partition=self.partition,
            device=self.device,
            nonce=NONCE,
            frame=b"frame",
            now_ms=NOW,
            expires_ms=NOW + ttl_ms,
            bridge=bridge,
            **given,
        )
        return await self.mailboxes.enqueue(envelope)

    async def due(self, now_ms: int) -> list[str]:
        """Subjects of this project's bridge timers that are due."""
        found = await self.timers.due(self.partition, WORKER, now_ms, 128)
        own = [subject for kind, subject in found if kind == "bridge"]
        heads = [await self.messages.status(MessageId(subject)) for subject in own]
        return [
            subject
            for subject, head in zip(own, heads, strict=True)
            if head is not None and head.project == self.project
        ]

    async def ready(self, now_ms: int = NOW) -> list[Lane | None]:
        found = [await self.jobs.ready(kept, now_ms) for kept in await self.due(now_ms)]
        return [None if one is None else one[0] for one in found]

    async def take(self, now_ms: int = NOW, hold_ms: int = 30_000, most: int = 128) -> list[Job]:
        return (await self.taken(now_ms, hold_ms, most)).jobs

    async def taken(self, now_ms: int = NOW, hold_ms: int = 30_000, most: int = 128) -> Taken:
        return await self.jobs.take(self.partition, self.lane, WORKER, most, now_ms, hold_ms)

    async def ack(self, sent: Enqueued) -> None:
        acks = [Ack(sent.message, sent.seq, 0)]
        await self.mailboxes.ack(self.device, self.epoch, acks, NOW + 5)

    async def events(self, message: MessageId) -> list[str]:
        """Events of the status with their details, checked against the table of states."""
        status = await self.messages.status(message)
        assert status is not None
        replay([entry.event for entry in status.timeline])
        return [
            f"{entry.event.value}: {entry.detail}" if entry.detail else entry.event.value
            for entry in status.timeline
        ]

    async def fields(self, message: MessageId) -> set[str]:
        """What is kept for bridges of a message."""
        reply = await self.store.batch.call("HKEYS", keys.message(message))
        assert isinstance(reply, list)
        return {name.decode() for name in reply if isinstance(name, bytes)} & {
            *("bb", "bp", "f", "ba", "bh")
        }
