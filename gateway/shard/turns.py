"""Whose turn it is to write to sessions: one slice a turn of the event loop, urgent lanes first.

Whatever writes to many sessions takes its turn here before each slice: the readers of the inbox,
the fan-outs, the answers to those who read logs. Between two slices the loop looks at its sockets,
so a critical message waits for the slice under way, not for what is queued behind it.
"""

import asyncio
from typing import Final

from router.model.lane import Lane

SLICE: Final = 256
"""Sessions that are written to in one turn."""
SHARE: Final = 64
"""A lane is passed over so many times at the most: then it has a turn, and nothing starves."""


class _Waiter:
    __slots__ = ("future", "lane", "passed")

    def __init__(self, lane: Lane, future: asyncio.Future[None]) -> None:
        self.lane = lane
        self.future = future
        self.passed = 0


class Turns:
    """Gives turns to the tasks of one shard.

    Args:
        share: how often a task may be passed over.
    """

    def __init__(self, share: int = SHARE) -> None:
        self._share = share
        self._waiting: list[_Waiter] = []
        self._scheduled = False

    def contested(self, lane: Lane) -> bool:
        """Tell whether somebody waits whom this lane must not pass."""
        return any(waiter.lane <= lane for waiter in self._waiting)

    async def take(self, lane: Lane) -> None:
        """Wait for a turn: for one of the loop at the least."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(lane, loop.create_future())
        self._waiting.append(waiter)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._grant)
        try:
            await waiter.future
        finally:
            if waiter in self._waiting:  # cancelled
                self._waiting.remove(waiter)

    def _grant(self) -> None:
        """Let the next one go on, and decide anew in the next turn of the loop."""
        waiting = self._waiting
        if not waiting:
            self._scheduled = False
            return
        chosen = next((one for one in waiting if one.passed >= self._share), None)
        chosen = chosen or min(waiting, key=_lane)  # the first of them
        waiting.remove(chosen)
        for other in waiting:
            other.passed += 1
        if not chosen.future.done():
            chosen.future.set_result(None)
        asyncio.get_running_loop().call_soon(self._grant)


def _lane(waiter: _Waiter) -> Lane:
    return waiter.lane
