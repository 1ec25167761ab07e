"""Hints on their way to shards: fast, never needed.

Before: `router.send`, `router.redelivery`, `router.registration`. After: `router.store.inbox`, then
`gateway.shard.inbox`. Hints for one lane of a shard leave together, many in one inbox entry: those
of one loop tick, and those that gathered while the ones before were on their way. Where too many
gather, what is left of a message is that its device is to be woken. Losing a hint is harmless, for
the mailbox holds the message and its timer comes back to it; so nothing here waits, and nothing
raises.
"""

import asyncio
from typing import Final

import msgspec
import structlog

from router.model.errors import PushError
from router.model.hint import AnyHint, Deliver, Publish, Route, Wake
from router.model.ids import DeviceId, ShardId
from router.model.lane import Lane
from router.store.inbox import Inboxes
from router.telemetry.metrics import Metrics

MAX_BUFFERED: Final = 5_000
"""Hints that wait for one lane of a shard, and devices that are to be woken besides."""
MAX_ENTRY: Final = 256
"""Hints in one inbox entry."""

_log = structlog.stdlib.get_logger(__name__)


_Inbox = tuple[ShardId, Lane]


class _Waiting(msgspec.Struct):
    """What leaves for one lane of a shard next."""

    hints: list[AnyHint] = []
    wakes: dict[DeviceId, Wake] = {}


class Routing:
    """Collects hints per shard and appends them to inboxes.

    Args:
        inboxes: where they go.
        metrics: counts hints, and those that were dropped.
        limit: the most hints that wait for one lane of a shard, and the most wakes.
    """

    def __init__(self, inboxes: Inboxes, metrics: Metrics, limit: int = MAX_BUFFERED) -> None:
        self._inboxes = inboxes
        self._metrics = metrics
        self._limit = limit
        self._waiting: dict[_Inbox, _Waiting] = {}
        self._tasks: dict[_Inbox, asyncio.Task[None]] = {}

    def hint(self, route: Route, hint: AnyHint) -> None:
        """Send a hint to the shard of a route, soon; where that fails it is counted and lost."""
        lane = Lane.NORMAL
        if type(hint) is Deliver or type(hint) is Publish:
            lane = hint.lane
        inbox = (route.shard, lane)
        waiting = self._waiting.get(inbox)
        if waiting is None:
            waiting = self._waiting[inbox] = _Waiting()
        if len(waiting.hints) < self._limit:
            waiting.hints.append(hint)
        else:
            self._shorten(waiting, hint)
        if inbox not in self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks[inbox] = loop.create_task(self._drain(inbox), name="routing")

    async def flush(self) -> None:
        """Wait until every hint has left or was dropped. The caller sets the deadline."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    def _shorten(self, waiting: _Waiting, hint: AnyHint) -> None:
        """Keep of a hint what can be kept in little room."""
        if (isinstance(hint, Wake) or (isinstance(hint, Deliver) and hint.seq > 0)) and (
            hint.device in waiting.wakes or len(waiting.wakes) < self._limit
        ):
            waiting.wakes[hint.device] = Wake(hint.device, hint.epoch)
            self._metrics.hints_dropped.labels("shortened").inc()
        else:
            self._metrics.hints_dropped.labels("full").inc()

    async def _drain(self, inbox: _Inbox) -> None:
        """Append until nothing waits. Its owner is this object: one for each lane of a shard."""
        try:
            while waiting := self._waiting.pop(inbox, None):
                hints = [*waiting.hints, *waiting.wakes.values()]
                # At once: one after another, a slow store would let in an entry a round trip.
                async with asyncio.TaskGroup() as tasks:
                    for start in range(0, len(hints), MAX_ENTRY):
                        entry = hints[start : start + MAX_ENTRY]
                        tasks.create_task(self._append(inbox, entry))
        finally:
            del self._tasks[inbox]

    async def _append(self, inbox: _Inbox, hints: list[AnyHint]) -> None:
        shard, lane = inbox
        try:
            appended = await self._inboxes.append(shard, hints, lane)
        except PushError as error:
            self._metrics.hints_dropped.labels("store").inc(len(hints))
            _log.warning("hints.dropped", shard=shard, hints=len(hints), code=error.code.name)
            return
        if appended:
            self._metrics.hints.inc(len(hints))
        else:
            self._metrics.hints_dropped.labels("gone").inc(len(hints))
