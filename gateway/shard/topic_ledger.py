"""What sessions tell of their topics, on its way into the store: cursors and counts.

Before: `gateway.shard.topics`. After: `router.store.topics`. Both are stored now and then, many in
one call, a count always before the cursor that tells of the same ack. While the store is away they
are kept, up to a bound: a lost cursor makes messages come again, a lost count is missing in a
message's status.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from gateway.shard.engagement import EngagementLedger
from gateway.shard.events import TopicEngaged
from gateway.shard.local_topic import Subscriber
from gateway.shard.session.published import Counts
from router.model.errors import PushError, StoreUnavailableError
from router.model.ids import DeviceId, MessageId, ProjectId, TopicName
from router.model.receipt import Event
from router.model.topic import DeviceEvent
from router.store.engagement import Engagement
from router.store.topics import Cursor, Topics

MAX_CURSORS: Final = 100_000
"""Cursors of sessions that are over, kept while the store is away."""
MAX_MESSAGES: Final = 10_000
"""Messages whose counts are kept while the store is away."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.topics")


class _Told(msgspec.Struct):
    """What devices did with one message."""

    project: ProjectId
    counts: dict[Event, int] = {}
    devices: list[DeviceEvent] = []


class TopicLedger:
    """Collects cursors and counts, and stores them.

    Args:
        topics: where they go.
        engagement: where goes what people did.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(
        self, topics: Topics, engagement: EngagementLedger, now_ms: Callable[[], int]
    ) -> None:
        self.counts = Counts()
        """Where sessions count."""
        self.now_ms = now_ms
        self._topics = topics
        self._engagement = engagement
        self._moved: dict[Subscriber, None] = {}
        self._ended: list[Cursor] = []
        self._told: dict[MessageId, _Told] = {}
        self._lock = asyncio.Lock()

    def moved(self, peer: Subscriber) -> None:
        """Take it that a session has cursors to store."""
        self._moved[peer] = None

    def left(self, peer: Subscriber) -> None:
        """Take it that a session is over; its cursors came by `ended`."""
        self._moved.pop(peer, None)

    def ended(self, device: DeviceId, epoch: int, cursors: Sequence[tuple[TopicName, int]]) -> None:
        """Take the last cursors of a session."""
        self._ended += [Cursor(device, epoch, topic, seq) for topic, seq in cursors]
        if len(self._ended) > MAX_CURSORS:
            _log.warning("cursors.dropped", count=len(self._ended) - MAX_CURSORS)
            del self._ended[:-MAX_CURSORS]

    def engaged(self, project: ProjectId, device: DeviceId, action: TopicEngaged) -> None:
        """Take what a person did with a message."""
        told = Engagement(device, action.event, action.at_ms, action.detail, action.sent)
        self._engagement.add(project, action.message, told)

    async def flush(self, *, cursors: bool = True) -> None:
        """Store what was told; what the store does not take is kept."""
        async with self._lock:
            await self._store(everything=cursors)
            await self._engagement.flush()

    async def save_ended(self) -> None:
        """Store the last cursors of sessions that are over."""
        async with self._lock:
            if self._ended:
                await self._store(everything=False)

    async def _store(self, *, everything: bool) -> None:
        """Store counts, and the cursors as they stand now.

        A cursor tells of acks. Were it in the store before their counts, a death in between would
        lose them: the message does not come again, and nobody tells of its delivery any more. So
        both are taken at one time, and leave in one pipeline, the counts first.
        """
        ended, self._ended = self._ended, []
        peers: list[Subscriber] = []
        cursors = list(ended)
        if everything:
            peers, self._moved = list(self._moved), {}
        for peer in peers:
            session = peer.session
            device, epoch = session.device, session.epoch
            if device is not None:
                cursors += [Cursor(device, epoch, *one) for one in session.take_cursors()]
        counting = [self._count(*told) for told in self._take_counts().items()]
        saving = self._taken(self._topics.save_cursors(cursors), "cursors.refused")
        async with asyncio.TaskGroup() as tasks:
            outcomes = [tasks.create_task(call) for call in (*counting, saving)]
        if not all(outcome.result() for outcome in outcomes):
            self._ended = ended + self._ended
            for peer in peers:
                if peer.open:
                    peer.carry_out(peer.session.keep_cursors())

    def _take_counts(self) -> dict[MessageId, _Told]:
        """Give what sessions counted since the last call, and what was kept."""
        items, self.counts.items = self.counts.items, []
        for item in items:
            self._add(item.project, item.message, item.counts, item.devices)
            item.counts, item.devices, item.counted = {}, [], False
        told, self._told = self._told, {}
        return told

    def _count(self, message: MessageId, told: _Told) -> Coroutine[None, None, bool]:
        """Begin to store what devices did with a message; False where it is kept in the end."""
        calls: list[tuple[Awaitable[object], _Told]] = []
        topics, project = self._topics, told.project
        if told.devices:
            part = _Told(project, devices=told.devices)
            calls.append((topics.count_devices(message, project, told.devices), part))
        if told.counts:
            part = _Told(project, told.counts)
            calls.append((topics.count(message, project, told.counts, self.now_ms()), part))
        return self._counted(message, calls)

    async def _counted(
        self, message: MessageId, calls: Sequence[tuple[Awaitable[object], _Told]]
    ) -> bool:
        """Wait for what `_count` began."""
        taken = True
        for call, told in calls:
            if not await self._taken(call, "counts.refused"):
                self._add(told.project, message, told.counts, told.devices)
                taken = False
        return taken

    @staticmethod
    async def _taken(call: Awaitable[object], refused: str) -> bool:
        """Wait for the store; False where it is away."""
        try:
            await call
        except StoreUnavailableError:
            return False
        except PushError as error:
            _log.warning(refused, reason=error.message)
        return True

    def _add(
        self,
        project: ProjectId,
        message: MessageId,
        counts: Mapping[Event, int],
        devices: Sequence[DeviceEvent],
    ) -> None:
        told = self._told.get(message)
        if told is None:
            if len(self._told) >= MAX_MESSAGES:
                del self._told[next(iter(self._told))]
            told = self._told[message] = _Told(project)
        for event, number in counts.items():
            told.counts[event] = told.counts.get(event, 0) + number
        told.devices.extend(devices)
