"""Who writes next: one slice a turn of the loop, urgent lanes first, and nobody starves."""

import asyncio
import itertools

from gateway.shard.turns import Turns
from router.model.lane import Lane


async def take(turns: Turns, lane: Lane, times: int, log: list[str], name: str = "") -> None:
    for _ in range(times):
        await turns.take(lane)
        log.append(name or lane.label)


async def test_the_most_urgent_of_those_who_wait_goes_first() -> None:
    turns, log = Turns(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        for lane in reversed(Lane):
            tasks.create_task(take(turns, lane, 2, log))
    assert log == [lane.label for lane in Lane for _ in range(2)]


async def test_those_of_one_lane_take_turns() -> None:
    turns, log = Turns(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take(turns, Lane.NORMAL, 3, log, "a"))
        tasks.create_task(take(turns, Lane.NORMAL, 3, log, "b"))
    assert log == ["a", "b"] * 3


async def test_a_lane_is_passed_over_only_so_often() -> None:
    turns, log = Turns(share=4), list[str]()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take(turns, Lane.CRITICAL, 12, log))
        tasks.create_task(take(turns, Lane.LOW, 2, log))
    assert [at for at, name in enumerate(log) if name == "low"] == [4, 9]


async def test_others_have_the_loop_between_two_turns() -> None:
    turns, log = Turns(), list[str]()

    async def beside() -> None:
        while len(log) < 6:
            log.append("beside")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take(turns, Lane.NORMAL, 3, log))
        tasks.create_task(beside())
    for first, second in itertools.pairwise(log):
        assert "beside" in {first, second}


async def test_who_gives_up_is_not_waited_for() -> None:
    turns, log = Turns(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        gone = tasks.create_task(take(turns, Lane.CRITICAL, 1, log))
        tasks.create_task(take(turns, Lane.LOW, 1, log))
        await asyncio.sleep(0)
        gone.cancel()
    assert log == ["low"]
    assert not turns.contested(Lane.LOW)


async def test_a_lane_is_contested_by_its_own_and_by_more_urgent_ones() -> None:
    turns, log = Turns(), list[str]()
    waiting = asyncio.ensure_future(take(turns, Lane.NORMAL, 1, log))
    await asyncio.sleep(0)
    assert [turns.contested(lane) for lane in Lane] == [False, False, True, True]
    await waiting
