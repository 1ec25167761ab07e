"""From the queues to the attempts: which pushes go next, and how many at once.

Before: `router.redelivery`, whose timers put jobs into the queues of the store. After:
`router.bridging.attempts`. The owner of a partition pushes for it. What is most urgent goes first,
over all partitions that the worker owns; a queue whose provider fails, or whose bridge is
suspended, is left alone, so its order stays. A job that was taken keeps its place here until its
result is stored; when the worker dies, the store gives the job out again after its hold.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
import structlog

from router.bridging.attempts import Attempts
from router.bridging.gate import Gate
from router.bridging.queues import LEAST_AT_ONCE, Queues, Take
from router.bridging.results import Result, Results
from router.model.errors import PushError
from router.model.ids import MessageId, Partition, partition_of_message
from router.policy.retry import Backoff
from router.store.bridge_jobs import BridgeJobs, Head, Job, Lane, Later
from router.telemetry.metrics import Metrics

_ROUND_S: Final = 0.01
"""Between two rounds of taking: jobs are taken many at once."""
_IDLE_S: Final = 0.5
"""A queue that was left alone is looked at again after this, or sooner."""
_LARGE: Final = 256
"""Of so many places a few may be idle."""
_SWEEP_S: Final = 30.0
"""So often all queues of the partitions are looked for, in case one was overlooked."""
_STOP_S: Final = 5.0
_RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)

_log = structlog.stdlib.get_logger(__name__)


class Bounds(msgspec.Struct, frozen=True):
    """How much a worker does at once."""

    most: int
    """Pushes under way of all bridges."""
    most_of_lane: int
    """Pushes under way of one bridge of one project."""
    hold_ms: int
    """Longer than an attempt can take."""


class Dispatch:
    """Pushes what waits in the partitions that a worker owns.

    Args:
        worker: its name, as its leases have it.
        owned: gives the partitions that it owns.
        jobs: the queues.
        attempts: make the pushes.
        gate: tells how many of a lane may go.
        bounds: of what is under way.
        metrics: of bridges.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the top of the stage: it holds its parts
        self,
        worker: str,
        owned: Callable[[], Collection[Partition]],
        jobs: BridgeJobs,
        attempts: Attempts,
        gate: Gate,
        bounds: Bounds,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._worker = worker
        self._owned = owned
        self._jobs = jobs
        self._attempts = attempts
        self._gate = gate
        self._bounds = bounds
        self._metrics = metrics
        self._now_ms = now_ms
        self._results = Results(jobs, now_ms, self._stored)
        self._queues = Queues()
        self._held: dict[str, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[Lane] = Counter()
        self._more = asyncio.Event()

    async def ready(self, kept: str, now_ms: int) -> None:
        """Put a message into its queue, when its timer is due."""
        queued = await self._jobs.ready(kept, now_ms)
        if queued is not None:
            lane, head = queued
            self._found(lane, partition_of_message(MessageId(kept)), head)

    async def take_over(self, partition: Partition) -> None:
        """Look for the queues of a partition that the worker came to own."""
        for lane, head in await self._jobs.waiting(partition):
            self._found(lane, partition, head)

    async def run_once(self, partition: Partition) -> bool:
        """Do nothing: jobs do not come through the outbox."""
        del partition
        return False

    async def run(self, stopping: asyncio.Event) -> None:
        """Push until told to stop; pushes under way then have a few seconds."""
        async with asyncio.TaskGroup() as beside:
            storing = beside.create_task(self._results.run())
            upkeep = beside.create_task(self._keep_up())
            waking = beside.create_task(self._wake(stopping))
            async with asyncio.TaskGroup() as pushes:
                await self._take(pushes, stopping)
                await self._drain()
            self._results.end()
            await asyncio.wait({storing}, timeout=_STOP_S)
            storing.cancel()
            upkeep.cancel()
            waking.cancel()

    async def _wake(self, stopping: asyncio.Event) -> None:
        """End the wait for more to do when it is time to stop."""
        await stopping.wait()
        self._more.set()

    async def _take(self, pushes: asyncio.TaskGroup, stopping: asyncio.Event) -> None:
        """Take jobs, round by round, until told to stop."""
        failures = 0
        while not stopping.is_set():
            self._more.clear()
            looked = False
            try:
                looked = await self._round(pushes)
                failures = 0
            except PushError as error:
                failures += 1
                if failures == 1:
                    _log.warning("bridges.wait", reason=error.message)
            except Exception:  # noqa: BLE001 - a defect must not end all pushes
                failures += 1
                _log.exception("bridges.failed")
            if failures:
                await asyncio.sleep(_RETRY.ceiling_s(failures))
            elif not looked:
                await self._wait(stopping)
            await asyncio.sleep(_ROUND_S)

    async def _wait(self, stopping: asyncio.Event) -> None:
        """Wait for more to do, or for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                if not stopping.is_set():
                    await self._more.wait()

    async def _round(self, pushes: asyncio.TaskGroup) -> bool:
        """Take what there is room for, and begin to push it; whether there was anything."""
        owned = self._owned()
        self._queues.keep(owned)
        free = self._bounds.most - len(self._held)
        plan = self._queues.plan(free, self._room)
        if not plan:
            return False
        errors: list[Exception] = []
        taken: list[tuple[Take, Job]] = []

        async def one(take: Take) -> None:
            try:
                taken.extend((take, job) for job in await self._take_from(take))
            except Exception as error:  # noqa: BLE001 - what others took is pushed first
                errors.append(error)

        async with asyncio.TaskGroup() as tasks:
            for take in plan:
                tasks.create_task(one(take))
        taken.sort(key=lambda each: (each[1].lane, each[1].ready_ms))
        for take, job in taken:
            self._begin(pushes, take, job)
        if errors:
            raise errors[0]
        return True

    def _room(self, lane: Lane) -> int:
        """Tell how many of a lane may go; it leaves half of what others do not use to them."""
        own = self._under_way[lane]
        spare = (self._bounds.most - (len(self._held) - own) + 1) // 2
        bound = min(self._bounds.most_of_lane, spare)
        most = bound - own
        if most < LEAST_AT_ONCE and bound >= _LARGE:
            return 0  # more will be free soon, and many are taken in one call
        return self._gate.room(lane, most) if most > 0 else 0

    async def _take_from(self, take: Take) -> list[Job]:
        self._queues.begin(take)
        try:
            found = await self._jobs.take(
                take.partition,
                take.lane,
                self._worker,
                take.most,
                self._now_ms(),
                self._bounds.hold_ms,
            )
        except BaseException:
            self._queues.missed(take)
            raise
        self._queues.seen(take, found.head)
        # One whose result is not stored yet may come again: the result ends it.
        jobs = [job for job in found.jobs if job.kept not in self._held]
        for job in jobs:
            self._held[job.kept] = take.lane
        self._under_way[take.lane] += len(jobs)
        self._gate.took(take.lane, len(jobs))
        return jobs

    def _begin(self, pushes: asyncio.TaskGroup, take: Take, job: Job) -> None:
        task = pushes.create_task(self._push(take, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _push(self, take: Take, job: Job) -> None:
        result: Result | None = None
        try:
            result = await self._attempt(take.lane, job)
        except asyncio.CancelledError:
            # It may have been taken; whoever tries it again uses the same id.
            result = Later(job.kept, self._now_ms(), "the worker stopped", counts=False)
            raise
        except PushError as error:
            _log.info("bridge.push_waits", reason=error.message)
        finally:
            if result is None:
                self._release(job.kept)
            else:
                self._results.note(take.partition, result)

    async def _attempt(self, lane: Lane, job: Job) -> Result:
        try:
            return await self._attempts.make(lane, job)
        except PushError:
            raise
        except Exception:  # noqa: BLE001 - of this push alone
            _log.exception("bridge.push_broken", bridge=lane.bridge)
            return await self._attempts.broke(lane, job)

    def _found(self, lane: Lane, partition: Partition, head: Head) -> None:
        self._queues.found(lane, partition, head)
        self._more.set()

    def _stored(self, results: Sequence[Result]) -> None:
        for result in results:
            self._release(result.kept)

    def _release(self, kept: str) -> None:
        lane = self._held.pop(kept, None)
        if lane is not None:
            self._under_way[lane] -= 1
            if not self._under_way[lane]:
                del self._under_way[lane]
            self._more.set()

    async def _drain(self) -> None:
        """Wait for what is under way, and end what takes too long."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=_STOP_S)
        for task in list(self._tasks):
            task.cancel()

    async def _keep_up(self) -> None:
        """Measure, and look for queues that were overlooked, until cancelled."""
        loop = asyncio.get_running_loop()
        sweep_s = loop.time() + _SWEEP_S
        while True:
            await asyncio.sleep(_IDLE_S)
            self._measure()
            if loop.time() < sweep_s:
                continue
            sweep_s = loop.time() + _SWEEP_S
            with contextlib.suppress(PushError):
                for partition in list(self._owned()):
                    await self.take_over(partition)

    def _measure(self) -> None:
        now_ms = self._now_ms()
        under_way: Counter[str] = Counter()
        for lane, count in self._under_way.items():
            under_way[lane.bridge] += count
        waiting = self._queues.oldest()
        for bridge in self._gate.bridges:
            queues, since_ms = waiting.get(bridge, (0, now_ms))
            self._metrics.bridge_under_way.labels(bridge).set(under_way[bridge])
            self._metrics.bridge_queues.labels(bridge).set(queues)
            self._metrics.bridge_oldest.labels(bridge).set(max(0, now_ms - since_ms) / 1000)
            self._metrics.bridge_breakers.labels(bridge).set(self._gate.open_breakers(bridge))
