"""The shard process: wires listener, sessions, inbox, acks, probe; serves until it is stopped."""

import asyncio
import contextlib
from typing import Final

import msgspec
import structlog

from gateway.process import RoleContext
from gateway.settings import Durability, Settings
from gateway.shard.acks import ShardLedger
from gateway.shard.balance import Balance
from gateway.shard.dialects import discover
from gateway.shard.drain import drain, flush
from gateway.shard.engagement import EngagementLedger
from gateway.shard.events import SessionLimits, Tally
from gateway.shard.inbox import read_inbox
from gateway.shard.listener import Listener
from gateway.shard.probe import Probe
from gateway.shard.registry import Registry
from gateway.shard.topic_ledger import TopicLedger
from gateway.shard.topics import Bounds, TopicIndex
from gateway.shard.turns import Turns
from router.acks import Acks
from router.model.errors import PushError
from router.model.ids import ENTROPY_BYTES, ShardId, new_device_id
from router.routing import Routing
from router.store.connection import Store, StoreOptions
from router.store.engagement import Engagements
from router.store.inbox import Inboxes
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.topics import Topics
from router.subscription import Subscription
from router.telemetry.metrics import Metrics
from sdk_client.wire import SUBPROTOCOL_MSGPACK

_TALLY_S: Final = 1.0
_RETRY_S: Final = 0.2

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.app")


class _Lease(msgspec.Struct, frozen=True):
    """What a shard tells of itself."""

    probe_ms: int
    connections: int


async def run(settings: Settings, context: RoleContext) -> None:
    """Serve devices until `context.stopping` is set, then drain.

    A process that was paused for longer than its lease starts anew under another id: others may
    have taken its sessions for dead.

    Raises:
        OSError: the device port is taken, or a TLS file cannot be read.
        PushError: the store is not fit.
    """
    options = StoreOptions(
        url=settings.store_url,
        fsync=settings.durability is Durability.FSYNC,
        replicas=settings.store_replicas,
        retention_ms=settings.status_retention_s * 1000,
        max_pending=settings.max_pending,
        ack_timeout_ms=int(settings.ack_timeout_s * 1000),
    )
    clock, entropy = context.clock, context.entropy
    async with Store(options, context.metrics, clock.now_ms, entropy.bytes) as store:
        while not context.stopping.is_set():
            unique = new_device_id(entropy.bytes(ENTROPY_BYTES))
            async with asyncio.TaskGroup() as tasks:
                shard = Shard(settings, context, store, ShardId(f"{context.name}-{unique}"), tasks)
                await shard.serve()


class Shard:
    """One life of a shard, under one id.

    Args:
        settings: of the role.
        context: the process.
        store: open.
        name: the shard's id, never used before.
        tasks: owns whatever runs beside.
    """

    def __init__(
        self,
        settings: Settings,
        context: RoleContext,
        store: Store,
        name: ShardId,
        tasks: asyncio.TaskGroup,
    ) -> None:
        clock, metrics = context.clock, context.metrics
        self._settings = settings
        self._context = context
        self._name = name
        self._group = tasks
        self._tally = Tally()
        self._inboxes = Inboxes(store)
        self._leases = Leases(store)
        mailboxes = Mailboxes(store)
        self._routing = Routing(self._inboxes, metrics)
        self._ledger = ShardLedger(Acks(mailboxes, metrics, clock.now_ms), mailboxes, clock.now_ms)
        self._registry = Registry(
            name, mailboxes, self._ledger, self._routing, metrics, clock.now_ms, tasks
        )
        self._turns = Turns()
        topics = Topics(store)
        self._topic_ledger = TopicLedger(topics, EngagementLedger(Engagements(store)), clock.now_ms)
        self._topics = self._registry.topics = TopicIndex(
            name,
            topics,
            Subscription(topics, self._routing, clock.now_ms),
            metrics,
            self._topic_ledger,
            tasks,
            Bounds(self._turns, settings.fan_out_rate, settings.topic_cache_bytes),
        )
        limits = session_limits(settings, name, self._tally)
        dialects = discover()
        self._listener = Listener(settings, self._registry, dialects, limits, clock, metrics)
        self._probe = Probe(
            self._registry,
            mailboxes,
            self._routing,
            metrics,
            clock,
            context.entropy,
            (dialects[SUBPROTOCOL_MSGPACK], limits),
        )

    async def serve(self) -> None:
        """Serve until the process is told to stop or its lease was lost."""
        context = self._context
        await self._open_inbox()
        port = await self._listener.start()
        beside = [
            self._group.create_task(
                read_inbox(
                    self._inboxes,
                    self._registry,
                    context.metrics,
                    context.clock.now_ms,
                    self._turns,
                ),
                name="inbox",
            ),
            self._group.create_task(self._topics.run(), name="topics"),
            self._group.create_task(self._count(context.metrics), name="tally"),
        ]
        if self._settings.balance_connections:
            balance = Balance(self._name, self._registry, self._leases, context.entropy)
            beside.append(self._group.create_task(balance.run(), name="balance"))
        probe = self._group.create_task(self._probe.run(), name="probe")
        lease = self._group.create_task(self._hold_lease(), name="lease")
        stopping = self._group.create_task(_wait_for(context.stopping), name="stopping")
        try:
            if not context.is_ready:
                scheme = "wss" if self._settings.tls_cert else "ws"
                context.ready({"url": f"{scheme}://{self._settings.host}:{port}"})
            await asyncio.wait({lease, stopping}, return_when=asyncio.FIRST_COMPLETED)
            probe.cancel()  # before it is stopped: its next round would register it again
            await self._leave(drained=stopping.done())
        finally:
            for task in (*beside, probe, lease, stopping):
                task.cancel()

    async def _leave(self, *, drained: bool) -> None:
        if drained:
            await drain(
                self._listener,
                self._registry,
                self._ledger,
                self._context.entropy,
                self._settings.drain_s,
            )
        else:
            _log.error("shard.lease_lost", shard=self._name)
            await self._listener.close()
            await flush(self._ledger)
        await self._probe.stop()
        self._flush_tally(self._context.metrics)
        self._ledger.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._topic_ledger.flush()
        with contextlib.suppress(PushError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._leases.shard_drop(self._name)
                await self._inboxes.close(self._name)

    async def _open_inbox(self) -> None:
        """Create the inbox and the lease; waits for the store."""
        while not self._context.stopping.is_set():
            try:
                await self._inboxes.open(self._name)
                await self._renew()
            except PushError as error:
                _log.warning("shard.waits_for_store", reason=error.message)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _renew(self) -> None:
        value = _Lease(self._probe.probe_ms, len(self._registry))
        ttl_ms = int(self._settings.lease_s * 1000)
        await self._leases.shard_renew(self._name, msgspec.json.encode(value), ttl_ms)

    async def _hold_lease(self) -> None:
        """Renew the lease; returns when this process stood still for longer than the lease.

        While the store is away nobody else can judge the lease either, so the sessions stay.
        """
        clock, lease_s = self._context.clock, self._settings.lease_s
        while True:
            before_s = clock.monotonic()
            await asyncio.sleep(lease_s / 3)
            if clock.monotonic() - before_s > lease_s:
                return
            try:
                await self._renew()
            except PushError as error:
                _log.warning("lease.not_renewed", reason=error.message)

    async def _count(self, metrics: Metrics) -> None:
        while True:
            await asyncio.sleep(_TALLY_S)
            self._flush_tally(metrics)

    def _flush_tally(self, metrics: Metrics) -> None:
        metrics.deliveries.inc(self._tally.deliveries)
        metrics.redeliveries.inc(self._tally.redeliveries)
        self._tally.deliveries = self._tally.redeliveries = 0


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


def session_limits(settings: Settings, shard: ShardId, tally: Tally) -> SessionLimits:
    """Give what all sessions of a shard share."""
    return SessionLimits(
        shard=shard,
        tally=tally,
        window=settings.window,
        ack_timeout_ms=int(settings.ack_timeout_s * 1000),
        heartbeat_ms=int(settings.heartbeat_s * 1000),
        connect_timeout_ms=int(settings.connect_timeout_s * 1000),
    )
