"""The worker process: runs timers and outboxes of its share of the partitions."""

import asyncio

from gateway.process import RoleContext
from gateway.settings import Durability, Settings
from gateway.worker.bridges import bridges_of
from gateway.worker.callbacks import callbacks_of
from gateway.worker.export import export_of
from router.binding import Bindings
from router.contacts import StaleContacts
from router.issue import Issuer
from router.listing import RecentSink
from router.model.ids import ENTROPY_BYTES, new_device_id
from router.partitions import Partitions
from router.receipts import MetricsSink, Receipts, ReceiptSink
from router.redelivery import Redelivery
from router.routing import Routing
from router.spread import Spreader
from router.store.bridge_jobs import BridgeJobs
from router.store.casts import Casts
from router.store.connection import Store, StoreOptions
from router.store.inbox import Inboxes
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.members import Members
from router.store.outbox import Outbox
from router.store.recent import Recent
from router.store.timers import BIND, BRIDGE, ISSUE, KEEP, REACH, SPREAD, STALE, WALK, Timers
from router.store.topics import Topics
from router.store.walks import Walks
from router.walk import BridgeWalks


async def run(settings: Settings, context: RoleContext) -> None:
    """Run a worker until it is told to stop.

    It is ready at once: it waits for the store itself, and starts when the store is there.
    """
    clock, entropy, metrics = context.clock, context.entropy, context.metrics
    options = StoreOptions(
        url=settings.store_url,
        fsync=settings.durability is Durability.FSYNC,
        replicas=settings.store_replicas,
        retention_ms=settings.status_retention_s * 1000,
        max_pending=settings.max_pending,
        ack_timeout_ms=int(settings.ack_timeout_s * 1000),
    )
    # Fresh at each start: a successor never answers for leases of a dead one.
    worker = f"{context.name}-{new_device_id(entropy.bytes(ENTROPY_BYTES))}"
    async with Store(options, metrics, clock.now_ms, entropy.bytes) as store:
        mailboxes, leases, outbox = Mailboxes(store), Leases(store), Outbox(store)
        routing = Routing(Inboxes(store), metrics)
        members = Members(store)
        spreader = Spreader(Casts(store), mailboxes, members, routing, metrics, clock.now_ms)
        bindings = Bindings(members, clock.now_ms, entropy.bytes)
        timers, jobs = Timers(store), BridgeJobs(store)
        walks = BridgeWalks(Walks(store))
        stale = StaleContacts(mailboxes, jobs, timers, settings.bridge_token_days)
        bridges = bridges_of(settings, context, store, worker, lambda: partitions.owned)
        redelivery = Redelivery(
            timers,
            mailboxes,
            leases,
            routing,
            metrics,
            clock.now_ms,
            {
                SPREAD: spreader.resume,
                KEEP: spreader.keep,
                BIND: bindings.settle,
                STALE: stale.expire,
                WALK: walks.step,
                REACH: walks.reach,
                ISSUE: Issuer(Topics(store), routing).issue,
                BRIDGE: bridges.dispatch.ready,
            },
        )
        sink: ReceiptSink = MetricsSink(metrics)
        if settings.recent_messages:
            sink = RecentSink(Recent(store, settings.recent_messages), sink)
        receipts = Receipts(outbox, sink)
        callbacks = callbacks_of(settings, context, store, worker, lambda: partitions.owned)
        export = export_of(settings, context, store, worker)
        partitions = Partitions(
            worker,
            leases,
            redelivery,
            [receipts, callbacks.feed, export.feed, bridges.dispatch],
            outbox,
            metrics,
            clock.now_ms,
            settings.lease_s,
        )
        context.ready({"worker": worker})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(partitions.run(context.stopping), name="partitions")
            tasks.create_task(callbacks.delivery.run(context.stopping), name="callbacks")
            tasks.create_task(export.run(context.stopping), name="export")
            tasks.create_task(bridges.run(context.stopping), name="bridges")
