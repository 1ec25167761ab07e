"""The router's stages wired to a real store, as the processes wire them."""

import os

from prometheus_client import CollectorRegistry

from router.acks import Acks
from router.binding import Bindings
from router.bridge_terms import BridgeTerms
from router.bridges import discover
from router.cast import Caster
from router.contacts import Contacts, StaleContacts
from router.issue import Issuer
from router.model.hint import AnyHint, Hint, TopicHint, decode_hints
from router.model.ids import (
    MessageId,
    ProjectId,
    ShardId,
    new_device_id,
    new_secret,
    secret_hash,
)
from router.model.mailbox import Attached
from router.model.message import Message
from router.partitions import Partitions
from router.receipts import Receipts, ReceiptSink
from router.redelivery import Redelivery
from router.registration import DeviceSpec, Registered, Registration
from router.routing import Routing
from router.send import Sender
from router.spread import Spreader
from router.store.addresses import Addresses
from router.store.bridge_jobs import BridgeJobs
from router.store.casts import Casts
from router.store.connection import Store
from router.store.inbox import Inboxes
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.members import Members
from router.store.messages import Messages
from router.store.outbox import Outbox
from router.store.timers import BIND, ISSUE, KEEP, SPREAD, STALE, Timers
from router.store.topics import Topics
from router.telemetry.metrics import Metrics
from tests.support.valkey import wall_ms

BRIDGE_AFTER_MS = 10_000


class Clock:
    """The wall clock, and as far ahead of it as a test likes."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return wall_ms() + self.ahead_ms


class KnownBridges:
    """The bridges that projects have."""

    is_loaded = True

    def __init__(self) -> None:
        self.by_project: dict[ProjectId, frozenset[str]] = {}

    def names(self, project: ProjectId) -> frozenset[str]:
        return self.by_project.get(project, frozenset())

    async def has(self, project: ProjectId, name: str) -> bool:
        return name in self.names(project)


class Stages:
    """Every stage over one store, for a project of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.project = ProjectId(f"p-{new_device_id(os.urandom(10))}")
        self.mailboxes = Mailboxes(store)
        self.inboxes = Inboxes(store)
        self.leases = Leases(store)
        self.messages = Messages(store)
        self.timers = Timers(store)
        self.outbox = Outbox(store)
        self.routing = Routing(self.inboxes, self.metrics)
        self.jobs = BridgeJobs(store)
        self.kinds = discover()
        self.known = KnownBridges()
        self.terms = BridgeTerms(self.kinds, self.known, BRIDGE_AFTER_MS)
        now_ms = self.clock.now_ms
        self.sender = Sender(
            self.mailboxes,
            self.routing,
            self.metrics,
            now_ms,
            os.urandom,
            retract=lambda project, message: self.caster.cancel(project, message),  # noqa: PLW0108
            terms=self.terms,
        )
        self.members = Members(store)
        self.bindings = Bindings(self.members, now_ms, os.urandom)
        self.contacts = Contacts(
            *(self.kinds, self.known, Addresses(store), self.mailboxes, self.jobs, now_ms, 270),
            allow_private=False,
        )
        self.stale = StaleContacts(self.mailboxes, self.jobs, self.timers, 270)
        self.registration = Registration(
            *(self.mailboxes, self.routing, now_ms, os.urandom, "local", self.bindings),
            self.contacts,
        )
        self.casts = Casts(store)
        self.spreader = Spreader(
            self.casts, self.mailboxes, self.members, self.routing, self.metrics, now_ms
        )
        self.caster = Caster(
            self.casts,
            self.members,
            self.spreader,
            now_ms,
            os.urandom,
            self.sender.withdraw,
            terms=self.terms,
        )
        self.acks = Acks(self.mailboxes, self.metrics, now_ms)
        self.issuer = Issuer(Topics(store), self.routing)
        self.redelivery = Redelivery(
            self.timers,
            self.mailboxes,
            self.leases,
            self.routing,
            self.metrics,
            now_ms,
            {
                SPREAD: self.spreader.resume,
                KEEP: self.spreader.keep,
                BIND: self.bindings.settle,
                ISSUE: self.issuer.issue,
                STALE: self.stale.expire,
            },
        )

    def partitions(self, worker: str, sink: ReceiptSink, lease_s: float = 6.0) -> Partitions:
        """Make a worker of this name."""
        return Partitions(
            worker,
            self.leases,
            self.redelivery,
            [Receipts(self.outbox, sink)],
            self.outbox,
            self.metrics,
            self.clock.now_ms,
            lease_s,
        )

    def count(self, name: str, **labels: str) -> float:
        """Read a metric."""
        return self.registry.get_sample_value(name, labels) or 0.0

    async def register(self) -> Registered:
        """Register a device."""
        return await self.registration.register(self.project, DeviceSpec(platform="python"))

    async def shard(self) -> ShardId:
        """Open the inbox of a shard that lives."""
        shard = ShardId(f"s-{new_secret(os.urandom(9))}")
        await self.inboxes.open(shard)
        await self.leases.shard_renew(shard, b"{}", 60_000)
        return shard

    async def attach(self, device: Registered, shard: ShardId) -> Attached:
        """Connect a device."""
        return await self.mailboxes.attach(
            device.device_id, secret_hash(device.credential), shard, self.clock.now_ms(), 64
        )

    async def inbox(self, shard: ShardId) -> list[Hint]:
        """Read every hint for a session that the shard was sent so far."""
        return [one for one in await self._inbox(shard) if not isinstance(one, TopicHint)]

    async def published(self, shard: ShardId) -> list[TopicHint]:
        """Read every hint for the subscribers of a topic that the shard was sent so far."""
        return [one for one in await self._inbox(shard) if isinstance(one, TopicHint)]

    async def _inbox(self, shard: ShardId) -> list[AnyHint]:
        await self.routing.flush()
        reply = await self.store.batch.call("XRANGE", f"shard:{shard}", "-", "+")
        assert isinstance(reply, list)
        hints: list[AnyHint] = []
        for entry in reply:
            assert isinstance(entry, list)
            fields = entry[1]
            assert isinstance(fields, list)
            body = fields[1]
            assert isinstance(body, bytes)
            hints += decode_hints(body)
        return hints

    async def events(self, message: MessageId) -> list[str]:
        """List the events in a message's status."""
        status = await self.messages.status(message)
        return [] if status is None else [entry.event.value for entry in status.timeline]


def to(device: Registered, *, ttl_ms: int = 60_000, **fields: str) -> Message:
    """Make a message to a device."""
    return Message(token=device.token, data=fields or {"k": "v"}, ttl_ms=ttl_ms)
