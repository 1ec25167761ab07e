"""Several calls of the store that leave together, without a task for each.

A task for each message of a batch would cost more than its call does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from router.model.errors import PushError
from router.store.link import Reply

Item = TypeVar("Item")
Begun = TypeVar("Begun")
Result = TypeVar("Result")


async def pipelined(
    items: Iterable[Item],
    begin: Callable[[Item], tuple[Begun, asyncio.Future[Reply]]],
    finish: Callable[[Begun, asyncio.Future[Reply]], Awaitable[Result]],
) -> list[Result | PushError]:
    """Begin a call for each item, then finish them in order.

    Args:
        items: what the calls are of.
        begin: makes the call; a PushError that it raises is the item's result.
        finish: waits for the reply and makes the result of it; a PushError again is the result.

    Returns:
        For each item, in order, its result or its own error.
    """
    begun: list[tuple[Begun, asyncio.Future[Reply]] | PushError] = []
    results: list[Result | PushError] = []
    try:
        for item in items:
            try:
                begun.append(begin(item))
            except PushError as error:
                begun.append(error)
        for one in begun:
            if isinstance(one, PushError):
                results.append(one)
                continue
            try:
                results.append(await finish(*one))
            except PushError as error:
                results.append(error)
    finally:
        for one in begun:
            if not isinstance(one, PushError):
                one[1].cancel()  # where this task was cancelled; what was not sent yet stays here
    return results
