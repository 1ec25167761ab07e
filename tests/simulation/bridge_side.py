"""The bridges' engine of a worker, as far as the store goes: it takes jobs, pushes, tells, dies."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from router.model.device import Contact
from router.model.errors import PushError
from router.model.ids import DeviceId, Partition, ProjectId
from router.store import keys
from router.store.bridge_jobs import Bridged, BridgeJobs, Failed, Job, Lane, Later
from router.store.connection import Store
from tests.simulation.context import PROJECT
from tests.simulation.process import Process

BRIDGE: Final = "apns"
_LANE: Final = Lane(PROJECT, BRIDGE)
_HOLD_MS: Final = 6_000
_SLOWER_S: Final = 9.0
"""Than the hold: the job was given to another by then."""
FOREVER_MS: Final = 2**50
Push = Callable[[DeviceId, bytes], None]


class Everybody:
    """Every project has the bridge."""

    is_loaded = True

    def names(self, project: ProjectId) -> frozenset[str]:
        del project
        return frozenset({BRIDGE})

    async def has(self, project: ProjectId, name: str) -> bool:
        return name in self.names(project)


def contact(now_ms: int) -> Contact:
    """Say where the bridge reaches a device."""
    return Contact(BRIDGE, "{}", now_ms, FOREVER_MS)


class Carrier:
    """Carries the jobs of a worker's partitions to the provider."""

    def __init__(
        self,
        process: Process,
        store: Store,
        worker: str,
        owned: Callable[[], Collection[Partition]],
        push: Push,
    ) -> None:
        self._context = process.context
        self._process = process
        self._jobs = BridgeJobs(store)
        self._worker = worker
        self._owned = owned
        self._push = push

    async def run(self, stopping: asyncio.Event) -> None:
        """Take and carry until told to stop."""
        context = self._context
        async with asyncio.TaskGroup() as tasks:
            while not stopping.is_set():
                await asyncio.sleep(context.rng.uniform(0.1, 0.4))
                for partition in sorted(self._owned()):
                    # A look that finds nothing changes nothing: it is left out.
                    queue = keys.bridge_queue(partition, PROJECT, BRIDGE)
                    if context.view.has(queue):
                        await self._take(partition, tasks)

    async def _take(self, partition: Partition, tasks: asyncio.TaskGroup) -> None:
        most, now_ms = self._context.rng.randint(1, 4), self._process.now_ms()
        try:
            taken = await self._jobs.take(partition, _LANE, self._worker, most, now_ms, _HOLD_MS)
        except PushError:
            return
        for job in taken.jobs:
            self._context.note(self._process.name, f"takes {job.message}")
            tasks.create_task(self._attempt(partition, job))

    async def _attempt(self, partition: Partition, job: Job) -> None:
        context, jobs = self._context, self._jobs
        slow = context.happens(context.faults.bridge_fails * 0.2)
        await asyncio.sleep(_SLOWER_S if slow else context.rng.uniform(0, 1))
        now_ms = self._process.now_ms()
        if context.happens(context.faults.bridge_fails):
            if context.happens(0.5):
                later = Later(job.kept, now_ms + context.rng.choice([100, 2_000]), "503", True)
                await self._say(jobs.later(partition, [later], now_ms))
            else:
                await self._say(jobs.failed(partition, [Failed(job.kept, "no", now_ms)]))
            return
        context.note(self._process.name, f"pushes {job.message}")
        self._push(job.device, job.frame)
        await self._say(jobs.bridged(partition, [Bridged(job.kept, "id", now_ms)]))

    async def _say(self, said: Coroutine[Any, Any, None]) -> None:
        """Say what became of a job; where nobody hears it, the job comes back."""
        try:
            await said
        except PushError as error:
            self._context.note(self._process.name, f"is not heard: {error.code.name}")
