"""Work for many sessions: urgent lanes first, projects in turn, each at its pace."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from typing_extensions import override

from gateway.shard.pace import Pace
from gateway.shard.turns import SLICE, Turns
from gateway.shard.writers import Writers
from router.model.ids import ProjectId
from router.model.lane import Lane
from router.telemetry.metrics import Metrics

A, B = ProjectId("a"), ProjectId("b")


class Job:
    """So many sessions to be written to."""

    def __init__(self, log: list[str], project: ProjectId, sessions: int, lane: Lane) -> None:
        self.project = project
        self.lane = lane
        self._log = log
        self._left = sessions
        self.after: dict[int, Callable[[], None]] = {}
        """What happens once so many steps are done."""
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True

    def step(self, most: int) -> tuple[int, bool]:
        written = min(most, self._left)
        self._left -= written
        self._log.append(f"{self.project} {self.lane.label} {written}")
        if (then := self.after.get(len(self._log))) is not None:
            then()
        return written, self._left > 0


class Broken(Job):
    @override
    def step(self, most: int) -> tuple[int, bool]:
        raise RuntimeError(f"cannot write to {most}")


def registry_and_writers(
    tasks: asyncio.TaskGroup, rate: float = 0
) -> tuple[CollectorRegistry, Writers]:
    registry = CollectorRegistry()
    return registry, Writers(Turns(), Pace(rate), Metrics(registry), tasks)


async def test_urgent_lanes_go_first() -> None:
    log: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        _, writers = registry_and_writers(tasks)
        for lane in reversed(Lane):
            writers.add(Job(log, A, 2 * SLICE, lane))
    assert log == [f"a {lane.label} {SLICE}" for lane in Lane for _ in range(2)]


async def test_a_large_topic_leaves_every_second_turn_to_another_project() -> None:
    log: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        _, writers = registry_and_writers(tasks)
        writers.add(Job(log, A, 4 * SLICE, Lane.NORMAL))
        for _ in range(3):
            writers.add(Job(log, B, 1, Lane.NORMAL))
    assert log[:4] == [f"a normal {SLICE}", *["b normal 1"] * 3], "small work shares a turn"
    assert log[4:] == [f"a normal {SLICE}"] * 3


async def test_critical_work_that_comes_in_waits_for_the_slice_under_way_alone() -> None:
    log: list[str] = []
    idle: list[bool] = []
    async with asyncio.TaskGroup() as tasks:
        _, writers = registry_and_writers(tasks)
        bulk = Job(log, A, 100 * SLICE, Lane.NORMAL)
        bulk.after[5] = lambda: writers.add(Job(log, A, 1, Lane.CRITICAL))
        bulk.after[6] = lambda: idle.append(writers.idle(B, Lane.NORMAL, 0.0))
        writers.add(bulk)
    assert log.index("a critical 1") in {5, 6}
    assert idle == [False]
    assert writers.idle(B, Lane.NORMAL, 0.0)


async def test_a_project_over_its_rate_waits_and_others_do_not() -> None:
    log: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        registry, writers = registry_and_writers(tasks, rate=20 * SLICE)
        bulk = Job(log, A, 6 * SLICE, Lane.NORMAL)
        bulk.after[2] = lambda: writers.add(Job(log, B, 1, Lane.NORMAL))
        bulk.after[1] = lambda: writers.add(Job(log, A, 1, Lane.CRITICAL))
        writers.add(bulk)
    assert "b normal 1" in log[2:5]
    assert "a critical 1" in log[1:3], "it is charged, and does not wait"
    assert log.count(f"a normal {SLICE}") == 6, "nothing is lost"
    held_s = registry.get_sample_value(
        "pushwire_fan_out_paced_seconds_total", {"priority": "normal"}
    )
    assert held_s


async def test_work_that_breaks_is_dropped_and_the_rest_goes_on() -> None:
    log: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        _, writers = registry_and_writers(tasks)
        broken, whole = Broken(log, A, 1, Lane.NORMAL), Job(log, A, 1, Lane.NORMAL)
        writers.add(broken)
        writers.add(whole)
    assert log == ["a normal 1"]
    assert broken.dropped, "its owner knows"
    assert not whole.dropped


async def test_work_can_change_its_lane_while_it_waits() -> None:
    log: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        _, writers = registry_and_writers(tasks)
        moved = Job(log, A, 1, Lane.LOW)
        writers.add(Job(log, A, 2 * SLICE, Lane.NORMAL))
        writers.add(moved)
        writers.withdraw(moved)
        moved.lane = Lane.HIGH
        writers.add(moved)
    assert log == ["a high 1", f"a normal {SLICE}", f"a normal {SLICE}"]
