"""Hints on their way to shards: fast, never needed.

Before: `router.send`, `router.redelivery`, `router.registration`. After: `router.store.inbox`, then
`gateway.shard.inbox`. Hints for one lane of a shard leave together, many in one inbox entry: those
of one loop tick, and those that gathered while the ones before were on their way. Where too many
gather, what is left of a message is that its device is to be woken. Losing a hint is harmless, for
the mailbox holds the message and its timer comes back to it; so nothing here waits, and nothing
raises. A shard that is behind is spared the messages to topics: it is told where the logs end, once
for many, and reads there what is still wanted.
"""

import asyncio
from typing import Final

import msgspec
import structlog

from router.model.errors import PushError
from router.model.hint import Advance, AnyHint, Deliver, Publish, Route, Wake
from router.model.ids import DeviceId, ProjectId, ShardId, TopicName
from router.model.lane import Lane
from router.store.inbox import Inboxes
from router.telemetry.metrics import Metrics

MAX_BUFFERED: Final = 5_000
"""Hints that wait for one lane of a shard, and devices that are to be woken besides."""
BEHIND: Final = 1_000
"""Entries that wait in a lane where its shard counts as behind."""
LOOK_EVERY: Final = 1_000
"""Hints to a lane after which its length is looked at; while the shard is behind, each time."""
MAX_ENTRY: Final = 256
"""Hints in one inbox entry."""

_log = structlog.stdlib.get_logger(__name__)


_Inbox = tuple[ShardId, Lane]


class _Waiting(msgspec.Struct):
    """What leaves for one lane of a shard next."""

    hints: list[AnyHint] = []
    wakes: dict[DeviceId, Wake] = {}
    advances: dict[tuple[ProjectId, TopicName], Advance] = {}


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
        self._unseen: dict[_Inbox, int] = {}
        """Hints since a lane's length was looked at."""
        self._behind: set[_Inbox] = set()
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
        if self._behind and inbox in self._behind and type(hint) is Publish and hint.seq:
            self._advance(waiting, hint, "behind")
        elif len(waiting.hints) < self._limit:
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
        elif type(hint) is Publish and hint.seq:
            self._advance(waiting, hint, "shortened")
        else:
            self._metrics.hints_dropped.labels("full").inc()

    def _advance(self, waiting: _Waiting, hint: Publish, reason: str) -> None:
        """Keep of messages to a topic where the last one stands."""
        topic = (hint.project, hint.topic)
        last = waiting.advances.get(topic)
        if last is None and len(waiting.advances) >= self._limit:
            self._metrics.hints_dropped.labels("full").inc()
        elif last is None or last.seq < hint.seq:
            waiting.advances[topic] = Advance(hint.project, hint.topic, hint.seq, hint.lane)
            self._metrics.hints_dropped.labels(reason).inc()

    async def _drain(self, inbox: _Inbox) -> None:
        """Append until nothing waits. Its owner is this object: one for each lane of a shard."""
        try:
            while waiting := self._waiting.pop(inbox, None):
                hints = [*waiting.hints, *waiting.wakes.values(), *waiting.advances.values()]
                # At once: one after another, a slow store would let in an entry a round trip.
                async with asyncio.TaskGroup() as tasks:
                    if self._is_to_look(inbox, len(hints)):
                        tasks.create_task(self._look(inbox))
                    for start in range(0, len(hints), MAX_ENTRY):
                        entry = hints[start : start + MAX_ENTRY]
                        tasks.create_task(self._append(inbox, entry))
        finally:
            del self._tasks[inbox]

    def _is_to_look(self, inbox: _Inbox, hints: int) -> bool:
        unseen = self._unseen.get(inbox, 0) + hints
        look = unseen >= LOOK_EVERY or inbox in self._behind
        self._unseen[inbox] = 0 if look else unseen
        return look

    async def _look(self, inbox: _Inbox) -> None:
        """Find out whether a shard is behind: the store tells, as one that hangs would not."""
        try:
            length = await self._inboxes.length(*inbox)
        except PushError:
            return
        if length < BEHIND:
            self._behind.discard(inbox)
        elif inbox not in self._behind:
            self._behind.add(inbox)
            shard, lane = inbox
            _log.warning("shard.behind", shard=shard, lane=lane.label, entries=length)

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
            self._unseen.pop(inbox, None)
            self._behind.discard(inbox)
