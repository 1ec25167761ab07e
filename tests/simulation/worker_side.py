"""A worker's process: the real owner of partitions, with its timers, receipts and leases."""

import asyncio
from collections.abc import Sequence
from typing import Final

from router.binding import Bindings
from router.issue import Issuer
from router.model.ids import ENTROPY_BYTES, Partition, new_device_id
from router.model.receipt import Receipt
from router.partitions import Partitions
from router.redelivery import Redelivery
from router.routing import Routing
from router.spread import Spreader
from router.store.bridge_jobs import BridgeJobs
from router.store.casts import Casts
from router.store.connection import Store
from router.store.inbox import Inboxes
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.members import Members
from router.store.outbox import Outbox
from router.store.timers import BIND, BRIDGE, ISSUE, KEEP, REACH, SPREAD, WALK, Timers
from router.store.topics import Topics
from router.store.walks import Walks
from router.walk import BridgeWalks
from tests.simulation.bridge_side import Carrier, Push
from tests.simulation.context import Context
from tests.simulation.process import Process

LEASE_S: Final = 3.0


class Ear:
    """A sink that hears every event, after a while, or dies before it does."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def take(self, receipts: Sequence[Receipt]) -> None:
        await asyncio.sleep(self._context.rng.uniform(0, 0.05))
        self._context.checks.on_told(receipts)


class SomePartitions(Partitions):
    """Owns those of all partitions in which anything happens."""

    def __init__(self, partitions: list[Partition], *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self._all = partitions


class WorkerProcess(Process):
    """One life of a worker, wired as `gateway.worker.app.run` does."""

    def __init__(
        self,
        context: Context,
        partitions: list[Partition],
        push: Push,
        number: int,
        skew_ms: int,
    ) -> None:
        super().__init__(context, f"worker-{number}", skew_ms)
        self._some = partitions
        self._push = push
        self._role = self.role()
        self.run(self._live())

    @property
    def stopping(self) -> bool:
        return self._role.stopping.is_set()

    def stop(self) -> None:
        """Stop as on SIGTERM: the leases are given up."""
        self.context.note(self.name, "stops")
        self.enter(self._role.stopping.set)

    def die(self) -> None:
        """Die without a word, with its leases."""
        self.context.note(self.name, "dies")
        self.kill()

    async def _live(self) -> None:
        stopping = self._role.stopping
        worker = f"{self.name}-{new_device_id(self.entropy.bytes(ENTROPY_BYTES))}"
        async with self.store() as store, asyncio.TaskGroup() as tasks:
            partitions = self._partitions(store, worker)
            carrier = Carrier(self, store, worker, lambda: partitions.owned, self._push)
            tasks.create_task(partitions.run(stopping))
            tasks.create_task(carrier.run(stopping))
        self.context.note(self.name, "ends")
        self.kill()

    def _partitions(self, store: Store, worker: str) -> Partitions:
        metrics, now_ms = self.context.metrics, self.now_ms
        mailboxes, members, leases = Mailboxes(store), Members(store), Leases(store)
        routing = Routing(Inboxes(store), metrics)
        spreader = Spreader(Casts(store), mailboxes, members, routing, metrics, now_ms)
        bindings = Bindings(members, now_ms, self.entropy.bytes)
        walks, jobs = BridgeWalks(Walks(store)), BridgeJobs(store)

        async def ready(subject: str, now: int) -> None:
            await jobs.ready(subject, now)

        redelivery = Redelivery(
            Timers(store),
            mailboxes,
            leases,
            routing,
            metrics,
            now_ms,
            {
                SPREAD: spreader.resume,
                KEEP: spreader.keep,
                BIND: bindings.settle,
                WALK: walks.step,
                REACH: walks.reach,
                ISSUE: Issuer(Topics(store), routing).issue,
                BRIDGE: ready,
            },
        )
        outbox = Outbox(store)
        return SomePartitions(
            self._some,
            worker,
            leases,
            redelivery,
            [self.context.parts.receipts(outbox, Ear(self.context))],
            outbox,
            metrics,
            now_ms,
            LEASE_S,
        )
