"""The bridges' engine, as far as the store goes: it takes jobs, pushes, tells, and dies."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from router.model.device import Contact
from router.model.errors import PushError
from router.model.ids import DeviceId, MessageId, Partition, ProjectId, partition_of
from router.store.bridge_jobs import Bridged, Failed, Job, Lane, Later, Taken
from tests.simulation.context import PROJECT, Context
from tests.simulation.store import StorePort, StoreServer, at_once

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


class BridgeProcess:
    """One life of a process that carries jobs to the provider."""

    def __init__(
        self,
        context: Context,
        server: StoreServer,
        devices: Sequence[DeviceId],
        push: Push,
        tasks: asyncio.TaskGroup,
        number: int,
    ) -> None:
        self._context = context
        self._server = server
        self._push = push
        self._tasks = tasks
        self._partitions: list[Partition] = sorted({partition_of(device) for device in devices})
        self.name = f"bridges-{number}"
        self._port = StorePort(context, server, self.name)
        tasks.create_task(self._run())

    def kill(self) -> None:
        """Die without a word, with every job that it holds."""
        self._context.note(self.name, "is killed")
        self._port.alive = False

    async def _run(self) -> None:
        context = self._context
        while self._port.alive:
            await asyncio.sleep(context.rng.uniform(0.1, 0.4))
            for partition in self._partitions:
                # A look that finds nothing changes nothing: it is left out.
                if self._server.mailboxes.queues.get((partition, _LANE)):
                    await self._take(partition)

    async def _take(self, partition: Partition) -> None:
        context, mailboxes = self._context, self._server.mailboxes
        most = context.rng.randint(1, 4)

        def take() -> Taken:
            now_ms = context.now_ms()
            taken = at_once(mailboxes.take(partition, _LANE, self.name, most, now_ms, _HOLD_MS))
            for job in taken.jobs:
                context.checks.on_job(job.message)
            return taken

        try:
            taken = await self._port.call("take jobs", take)
        except PushError:
            return
        for job in taken.jobs:
            context.note(self.name, f"takes {job.message}")
            self._tasks.create_task(self._attempt(partition, job))

    async def _attempt(self, partition: Partition, job: Job) -> None:
        context, mailboxes = self._context, self._server.mailboxes
        slow = context.happens(context.faults.bridge_fails * 0.2)
        await asyncio.sleep(_SLOWER_S if slow else context.rng.uniform(0, 1))
        if not self._port.alive:
            return
        now_ms, message = context.now_ms(), MessageId(job.kept)
        if context.happens(context.faults.bridge_fails):
            if context.happens(0.5):
                at_ms = now_ms + context.rng.choice([100, 2_000])
                await self._say(mailboxes.later, partition, [Later(message, at_ms, "503", True)])
            else:
                await self._say(mailboxes.failed, partition, [Failed(message, "no", now_ms)])
            return
        context.note(self.name, f"pushes {job.message}")
        self._push(job.device, job.frame)
        await self._say(mailboxes.bridged, partition, [Bridged(message, "id", now_ms)])

    async def _say(self, step: Callable[..., object], partition: Partition, what: object) -> None:
        """Say what became of a job; where nobody hears it, the job comes back."""
        context, mailboxes = self._context, self._server.mailboxes
        times = (context.now_ms(),) if step == mailboxes.later else ()

        def carry_out() -> None:
            at_once(step(partition, what, *times))  # type: ignore[arg-type]

        try:
            await self._port.call(step.__name__, carry_out)
        except PushError as error:
            context.note(self.name, f"{step.__name__}: {error.code.name}")
