"""Who runs which partition, and the running of it.

Workers find each other in the store, take their fair share of the partitions by lease and give up
what is too much. For each partition that it owns, a worker runs `router.redelivery` and
`router.receipts` in a loop that is quick while there is much to do and slow while there is nothing.
Two workers may overlap on a partition for a moment: every step of theirs may be repeated.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from router.model.errors import PushError, StoreRefusedError, StoreUnavailableError
from router.model.ids import Partition, all_partitions
from router.policy.limits import WINDOW
from router.policy.retry import Backoff, Poll
from router.redelivery import Redelivery
from router.store.leases import Leases
from router.store.outbox import Outbox
from router.telemetry.metrics import Metrics

_POLL: Final = Poll()
_GRID_S: Final = 0.05
"""Partitions wake on a common grid, so that their commands leave in one pipeline."""
_RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)
_UPKEEP_S: Final = 5.0
"""Seconds between two trims of an outbox."""
_STOP_S: Final = 2.0
"""Seconds in which leases are given up; where the store is away they run out by themselves."""

_log = structlog.stdlib.get_logger(__name__)


def fair_share(workers: int, partitions: int) -> int:
    """Give the most partitions that one of so many workers takes."""
    return math.ceil(partitions / max(1, workers))


class OutboxReader(Protocol):
    """Somebody who reads outboxes with a cursor of its own."""

    async def take_over(self, partition: Partition) -> None:
        """Prepare to read a partition."""

    async def run_once(self, partition: Partition) -> bool:
        """Deal with one window of events; whether it was full, so that more may wait."""


class Partitions:
    """Owns partitions and runs their background work.

    Args:
        worker: name of this worker, fresh at each start.
        leases: who lives and who owns what.
        redelivery: the timers.
        receipts: consumers of the outbox, each with a group of its own.
        outbox: trimmed here, once every group has dealt with an event.
        metrics: partitions, depth, timers, errors.
        now_ms: the wall clock, epoch milliseconds.
        lease_s: seconds until a silent worker counts as dead.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the top of the layers: it holds the stages
        self,
        worker: str,
        leases: Leases,
        redelivery: Redelivery,
        receipts: Sequence[OutboxReader],
        outbox: Outbox,
        metrics: Metrics,
        now_ms: Callable[[], int],
        lease_s: float,
    ) -> None:
        self._worker = worker
        self._leases = leases
        self._redelivery = redelivery
        self._receipts = receipts
        self._outbox = outbox
        self._metrics = metrics
        self._now_ms = now_ms
        self._lease_s = lease_s
        self._all = all_partitions()
        self._tasks: dict[Partition, asyncio.Task[None]] = {}
        self._due: dict[Partition, int] = {}
        self._depth: dict[Partition, int] = {}
        self._prepared: set[Partition] = set()
        self._upkeep_at: dict[Partition, float] = {}

    @property
    def owned(self) -> frozenset[Partition]:
        """The partitions that this worker runs."""
        return frozenset(self._tasks)

    async def run(self, stopping: asyncio.Event) -> None:
        """Own and run partitions until told to stop; then give all of them up."""
        failures = 0
        async with asyncio.TaskGroup() as tasks:
            while not stopping.is_set():
                try:
                    await self._balance(tasks)
                    failures, wait_s = 0, self._lease_s / 3
                except PushError as error:
                    failures += 1
                    wait_s = _RETRY.ceiling_s(failures)
                    self._failed("lease", failures, error)
                await _until(stopping, wait_s)
            for partition in list(self._tasks):
                self._stop(partition)
        await self._give_up()

    async def _balance(self, tasks: asyncio.TaskGroup) -> None:
        """Renew what is owned, give up the surplus, take what is free up to the fair share."""
        now_ms, ttl_ms = self._now_ms(), int(self._lease_s * 1000)
        await self._leases.worker_renew(self._worker, now_ms, ttl_ms)
        workers = await self._leases.workers(now_ms, ttl_ms)
        share = fair_share(len(workers), len(self._all))
        for partition in sorted(self._tasks)[share:]:
            self._stop(partition)
            await self._leases.partition_release(partition, self._worker)
        held = await self._acquire(sorted(self._tasks), ttl_ms)
        for partition in self.owned - held:
            _log.warning("partition.lost", partition=partition)
            self._stop(partition)
        for partition in await self._take(workers, share - len(held), ttl_ms):
            self._tasks[partition] = tasks.create_task(
                self._run_partition(partition), name=f"partition-{partition}"
            )
        self._metrics.partitions.set(len(self._tasks))
        self._show()

    async def _take(self, workers: Sequence[str], wanted: int, ttl_ms: int) -> list[Partition]:
        """Take free partitions; each worker begins elsewhere, so that they seldom collide."""
        place = workers.index(self._worker) if self._worker in workers else 0
        start = place * len(self._all) // max(1, len(workers))
        free = [p for p in self._all[start:] + self._all[:start] if p not in self._tasks]
        taken: list[Partition] = []
        while free and len(taken) < wanted:
            tried, free = free[: wanted - len(taken)], free[wanted - len(taken) :]
            got = await self._acquire(tried, ttl_ms)
            taken += [partition for partition in tried if partition in got]
        return taken

    async def _acquire(self, partitions: Sequence[Partition], ttl_ms: int) -> set[Partition]:
        """Take or renew leases in one pipeline."""
        held: set[Partition] = set()
        errors: list[PushError] = []

        async def one(partition: Partition) -> None:
            try:
                if await self._leases.partition_acquire(partition, self._worker, ttl_ms):
                    held.add(partition)
            except PushError as error:
                errors.append(error)

        async with asyncio.TaskGroup() as tasks:
            for partition in partitions:
                tasks.create_task(one(partition))
        if errors:
            raise errors[0]
        return held

    def _stop(self, partition: Partition) -> None:
        self._tasks.pop(partition).cancel()
        self._due.pop(partition, None)
        self._depth.pop(partition, None)
        self._prepared.discard(partition)
        self._upkeep_at.pop(partition, None)

    async def _give_up(self) -> None:
        self._show()
        self._metrics.partitions.set(0)
        try:
            async with asyncio.timeout(_STOP_S), asyncio.TaskGroup() as tasks:
                for partition in self._all:
                    release = self._leases.partition_release(partition, self._worker)
                    tasks.create_task(release)
                tasks.create_task(self._leases.worker_drop(self._worker))
        except* (PushError, TimeoutError):
            _log.warning("worker.leases_kept", worker=self._worker)

    async def _run_partition(self, partition: Partition) -> None:
        """Run the work of one partition until cancelled.

        Each stage fails alone: receipts that nobody takes must not keep messages from expiring.
        """
        loop = asyncio.get_running_loop()
        stages = {"timers": self._run_timers, "receipts": self._hand_out, "upkeep": self._keep_up}
        failures, wait_s = 0, 0.0
        while True:
            found, failed = False, False
            for stage, run in stages.items():
                try:
                    found = await run(partition) or found
                except Exception as error:  # noqa: BLE001 - nor must it stop the other partitions
                    failed = True
                    self._failed(stage, failures + 1, error)
                    if _is_away(error):
                        break
            if failed:
                failures += 1
                await asyncio.sleep(_RETRY.ceiling_s(failures))
                continue
            failures = 0
            wait_s = _POLL.next_s(wait_s, found=found)
            await asyncio.sleep(_to_grid(loop.time(), wait_s))

    async def _run_timers(self, partition: Partition) -> bool:
        due = await self._redelivery.run_once(partition, self._worker)
        self._due[partition] = due
        return due >= WINDOW

    async def _hand_out(self, partition: Partition) -> bool:
        try:
            if partition not in self._prepared:
                for receipts in self._receipts:
                    await receipts.take_over(partition)
                self._prepared.add(partition)
            return any([await receipts.run_once(partition) for receipts in self._receipts])
        except Exception as error:
            if not isinstance(error, StoreUnavailableError):
                self._prepared.discard(partition)  # the group may be gone with the store's data
            raise

    async def _keep_up(self, partition: Partition) -> bool:
        """Trim and measure the outbox, now and then."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._upkeep_at.get(partition, now_s):
            await self._outbox.trim(partition)
            self._depth[partition] = await self._outbox.depth(partition)
            self._show()
            self._upkeep_at[partition] = now_s + _UPKEEP_S
        return False

    def _show(self) -> None:
        self._metrics.outbox_depth.set(sum(self._depth.values()))
        self._metrics.timers_due.set(sum(self._due.values()))

    def _failed(self, stage: str, failures: int, error: Exception) -> None:
        self._metrics.partition_errors.labels(stage).inc()
        if failures > 1:
            return
        if isinstance(error, PushError):
            _log.warning("partition.waits", stage=stage, reason=error.message)
        else:
            _log.error("partition.failed", stage=stage, exc_info=error)


def _is_away(error: Exception) -> bool:
    return isinstance(error, StoreUnavailableError) and not isinstance(error, StoreRefusedError)


async def _until(stopping: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


def _to_grid(now_s: float, wait_s: float) -> float:
    """Lengthen a wait so that it ends on the common grid; none stays none."""
    if wait_s == 0:
        return 0.0
    return math.ceil((now_s + wait_s) / _GRID_S) * _GRID_S - now_s
