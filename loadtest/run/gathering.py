"""Works that go on beside each other, and their answers in order."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TypeVar

T = TypeVar("T")


async def in_turn(turns: asyncio.Semaphore, work: Coroutine[object, object, T]) -> T:
    """Do it when there is a turn for it."""
    async with turns:
        return await work


async def all_of(work: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """Do all of it at once; what fails ends the others."""
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one) for one in work]
    return [task.result() for task in asked]
