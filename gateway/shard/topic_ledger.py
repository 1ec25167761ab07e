"""What sessions tell of their topics, on its way into the store: cursors and counts.

Before: `gateway.shard.topics`. After: `router.store.topics`. Both are stored now and then, many in
one call. While the store is away they are kept, up to a bound: a lost cursor makes messages come
again, a lost count is missing in a message's status.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
            await self._flush_counts()
            await self._engagement.flush()
            if cursors or self._ended:
                await self._flush_cursors(everything=cursors)

    async def save_ended(self) -> None:
        """Store the last cursors of sessions that are over."""
        async with self._lock:
            if self._ended:
                await self._flush_cursors(everything=False)

    async def _flush_cursors(self, *, everything: bool) -> None:
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
        if not cursors:
            return
        try:
            await self._topics.save_cursors(cursors)
        except StoreUnavailableError:
            self._ended = ended + self._ended
            for peer in peers:
                if peer.open:
                    peer.carry_out(peer.session.keep_cursors())
        except PushError as error:
            _log.warning("cursors.refused", reason=error.message)

    async def _flush_counts(self) -> None:
        items, self.counts.items = self.counts.items, []
        for item in items:
            self._add(item.project, item.message, item.counts, item.devices)
            item.counts, item.devices, item.counted = {}, [], False
        told, self._told = self._told, {}
        failed: dict[MessageId, _Told] = {}
        async with asyncio.TaskGroup() as tasks:
            for message, one in told.items():
                tasks.create_task(self._count(message, one, failed))
        for message, one in failed.items():
            self._add(one.project, message, one.counts, one.devices)

    async def _count(self, message: MessageId, told: _Told, failed: dict[MessageId, _Told]) -> None:
        try:
            if told.devices:
                await self._topics.count_devices(message, told.project, told.devices)
                told.devices = []
            if told.counts:
                await self._topics.count(message, told.project, told.counts, self.now_ms())
        except StoreUnavailableError:
            failed[message] = told
        except PushError as error:
            _log.warning("counts.refused", reason=error.message)

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
