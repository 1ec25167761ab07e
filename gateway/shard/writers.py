"""Writes to many sessions without holding up the others: by lane, by project, at a pace.

Before: `gateway.shard.fan_outs` and `gateway.shard.topic_reader`, which bring work. One task a lane
runs while there is something to do: each turn goes to one project, and is worth one slice.
"""

import asyncio
import contextlib
import functools
from typing import Final, Protocol

import structlog

from gateway.shard.fair import Fair
from gateway.shard.pace import Pace
from gateway.shard.turns import SLICE, Turns
from router.model.ids import ProjectId
from router.model.lane import Lane
from router.telemetry.metrics import Metrics

_LEAST_WAIT_S: Final = 0.001

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.writers")


class Work(Protocol):
    """Something to be written to sessions, a part at a time."""

    @property
    def project(self) -> ProjectId:
        """Whose it is."""
        ...

    @property
    def lane(self) -> Lane:
        """How urgent it is; it may change while it does not wait."""
        ...

    def step(self, most: int) -> tuple[int, bool]:
        """Write about so many deliveries; gives how many, and whether more waits."""
        ...

    def drop(self) -> None:
        """Take it that a step of it broke: it has no more turns."""
        ...


class Writers:
    """The work of one shard.

    Args:
        turns: when a slice may be written.
        pace: how much of it a project may have.
        metrics: counts what is held back.
        tasks: owns the lanes' tasks.
    """

    def __init__(
        self, turns: Turns, pace: Pace, metrics: Metrics, tasks: asyncio.TaskGroup
    ) -> None:
        self._turns = turns
        self._pace = pace
        self._metrics = metrics
        self._tasks = tasks
        self._lanes: dict[Lane, Fair[Work]] = {lane: Fair() for lane in Lane}
        self._running: dict[Lane, asyncio.Event] = {}
        """The lanes that have a task, and what tells it of more work."""

    def idle(self, project: ProjectId, lane: Lane, now_s: float) -> bool:
        """Tell whether work of this lane would be done before all that waits."""
        for other in self._running:
            if other <= lane:
                return False
        return self._pace.wait_s(project, lane, now_s) <= 0

    def charge(self, project: ProjectId, deliveries: int, now_s: float) -> None:
        """Take it that so much was written besides."""
        self._pace.charge(project, deliveries, now_s)

    def add(self, work: Work) -> None:
        """Do it in its turn."""
        lane = work.lane
        self._lanes[lane].add(work.project, work)
        news = self._running.get(lane)
        if news is None:
            self._running[lane] = asyncio.Event()
            self._tasks.create_task(self._run(lane), name=f"writers-{lane.label}")
        else:
            news.set()

    def withdraw(self, work: Work) -> None:
        """Take back what waits, to change its lane."""
        self._lanes[work.lane].remove(work.project, work)

    async def _run(self, lane: Lane) -> None:
        work, news, loop = self._lanes[lane], self._running[lane], asyncio.get_running_loop()
        try:
            while work:
                await self._turns.take(lane)
                now_s = loop.time()
                project = work.next(functools.partial(self._may, lane, now_s))
                if project is not None:
                    self._pace.charge(project, self._slice(work, project), now_s)
                elif work:
                    await self._pause(lane, news)
        finally:
            del self._running[lane]

    def _may(self, lane: Lane, now_s: float, project: ProjectId) -> bool:
        return self._pace.wait_s(project, lane, now_s) <= 0

    def _slice(self, waiting: Fair[Work], project: ProjectId) -> int:
        """Let one project write so much."""
        left = SLICE
        while left > 0 and (work := waiting.take(project)) is not None:
            more = False
            try:
                written, more = work.step(left)
                left -= max(1, written)
            except Exception:  # noqa: BLE001 - one broken topic must not stop the others
                _log.exception("writing.failed", project=project)
                work.drop()
                left -= 1
            if more:
                self.add(work)
        return SLICE - left

    async def _pause(self, lane: Lane, news: asyncio.Event) -> None:
        """Wait until the first of those that are held back may go on, or something else came."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        wait_s = min(self._pace.wait_s(one, lane, begun_s) for one in self._lanes[lane])
        news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(_LEAST_WAIT_S, wait_s)):
                await news.wait()
        self._metrics.fan_out_paced.labels(lane.label).inc(loop.time() - begun_s)
