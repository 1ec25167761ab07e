"""Hints on their way to shards: fast, never needed.

Before: `router.send`, `router.redelivery`, `router.registration`. After: `router.store.inbox`, then
`gateway.shard.inbox`. Hints for one shard leave as one inbox entry: those of one loop tick, and
those that gathered while the entry before was on its way. Losing one is harmless, for the mailbox
holds the message and its timer comes back to it; so nothing here waits long, and nothing raises.
"""

import asyncio
from typing import Final

import structlog

from router.model.errors import PushError
from router.model.hint import Hint, Route
from router.model.ids import ShardId
from router.store.inbox import Inboxes
from router.telemetry.metrics import Metrics

MAX_BUFFERED: Final = 5_000
"""Hints that wait for one shard; one more is dropped."""
MAX_ENTRY: Final = 256
"""Hints in one inbox entry."""

_log = structlog.stdlib.get_logger(__name__)


class Routing:
    """Collects hints per shard and appends them to inboxes.

    Args:
        inboxes: where they go.
        metrics: counts hints, and those that were dropped.
        limit: the most that waits for one shard.
    """

    def __init__(self, inboxes: Inboxes, metrics: Metrics, limit: int = MAX_BUFFERED) -> None:
        self._inboxes = inboxes
        self._metrics = metrics
        self._limit = limit
        self._buffers: dict[ShardId, list[Hint]] = {}
        self._tasks: dict[ShardId, asyncio.Task[None]] = {}

    def hint(self, route: Route, hint: Hint) -> None:
        """Send a hint to the shard of a route, soon; where that fails it is counted and lost."""
        buffer = self._buffers.get(route.shard)
        if buffer is None:
            buffer = self._buffers[route.shard] = []
        if len(buffer) >= self._limit:
            self._metrics.hints_dropped.labels("full").inc()
            return
        buffer.append(hint)
        if route.shard not in self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks[route.shard] = loop.create_task(self._drain(route.shard), name="routing")

    async def flush(self) -> None:
        """Wait until every hint has left or was dropped. The caller sets the deadline."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _drain(self, shard: ShardId) -> None:
        """Append until the shard's buffer is empty. Its owner is this object: one a shard."""
        try:
            while hints := self._buffers.pop(shard, None):
                for start in range(0, len(hints), MAX_ENTRY):
                    await self._append(shard, hints[start : start + MAX_ENTRY])
        finally:
            del self._tasks[shard]

    async def _append(self, shard: ShardId, hints: list[Hint]) -> None:
        try:
            appended = await self._inboxes.append(shard, hints)
        except PushError as error:
            self._metrics.hints_dropped.labels("store").inc(len(hints))
            _log.warning("hints.dropped", shard=shard, hints=len(hints), code=error.code.name)
            return
        if appended:
            self._metrics.hints.inc(len(hints))
        else:
            self._metrics.hints_dropped.labels("gone").inc(len(hints))
