"""Wait for a condition, never for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(check: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0) -> T:
    """Call `check` until it gives something true, and give that.

    Raises:
        AssertionError: it did not within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        got = check()
        value: T = await got if inspect.isawaitable(got) else got
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"not within {timeout_s} s: {check}"
            raise AssertionError(message)
        await asyncio.sleep(0.01)
