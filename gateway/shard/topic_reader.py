"""Reads topic logs for sessions that are behind: from tails, else from the store.

Before: `gateway.shard.topics`. After: `router.store.topics`, then the sessions. Of each topic one
read is under way at a time, from behind the least that anybody waits for: a storm of reconnects
becomes a few reads.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog
from typing_extensions import override

from gateway.shard.events import ReadTopic
from gateway.shard.local_topic import LocalTopic, Subscriber, selection_of, unharmed
from gateway.shard.session.published import Item
from gateway.shard.tail import Tails
from gateway.shard.writers import Writers
from router.model.errors import PushError
from router.model.ids import ProjectId
from router.model.topic import LogEntry
from router.store.topics import PAGE, Topics
from router.telemetry.metrics import Metrics

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.topics")


class TopicReader:
    """Answers `ReadTopic`.

    Args:
        topics: the logs.
        metrics: counts reads.
        now_ms: the clock, epoch milliseconds.
        tasks: owns the calls of the store.
        writers: when a session may be answered.
        tails: what all topics may remember.
    """

    def __init__(
        self,
        topics: Topics,
        metrics: Metrics,
        now_ms: Callable[[], int],
        tasks: asyncio.TaskGroup,
        writers: Writers,
        tails: Tails,
    ) -> None:
        self._store = topics
        self._metrics = metrics
        self._now_ms = now_ms
        self._tasks = tasks
        self._writers = writers
        self._tails = tails

    def ask(self, peer: Subscriber, local: LocalTopic, action: ReadTopic) -> None:
        """Answer a session when it is its project's turn."""
        self._writers.add(_Asked(self, peer, local, action.after))

    def serve(self, peer: Subscriber, local: LocalTopic, after: int) -> int:
        """Answer from the tail, or have the store asked; gives how many messages went out."""
        given = self.serve_tail(peer, local, after)
        if given is not None:
            return given
        if local.waiting is None:
            local.waiting = [(peer, after)]
            self._tasks.create_task(self._read_log(local, local.waiting), name="topic-read")
        else:
            local.waiting.append((peer, after))
        return 0

    def serve_tail(self, peer: Subscriber, local: LocalTopic, after: int) -> int | None:
        """Answer from the tail; None where that does not hold all of it."""
        tail = local.tail
        if not tail.covers(after) or (after >= tail.top and tail.top < local.head):
            return None
        self._metrics.topic_reads.labels("tail").inc()
        items, upto = tail.read(after, PAGE)
        self._tails.used(tail)
        self.answer(peer, local, items, upto)
        return len(items)

    async def _read_log(self, local: LocalTopic, waiting: list[tuple[Subscriber, int]]) -> None:
        """Read from behind the least that anybody waits for, until nobody waits."""
        try:
            while waiting:
                after, known = min(start for _, start in waiting), local.head
                self._metrics.topic_reads.labels("store").inc()
                page = await self._store.read(local.project, local.name, after)
                # A crash of the store may have taken what was known.
                upto = page.upto if page.full else max(page.upto, known)
                local.head = max(local.head, upto)
                items = local.tail.merge(after, _items(local.project, after, page.entries), upto)
                self._tails.used(local.tail)
                # Who came meanwhile may be behind what was read, and waits for the next read.
                reached = max(upto, after + 1)
                served = [one for one in waiting if after <= one[1] < reached]
                waiting[:] = [one for one in waiting if not after <= one[1] < reached]
                for peer, start in served:
                    self._writers.add(_Answer(self, peer, local, start, items, upto))
        except PushError:
            pass  # those who wait ask again
        except Exception:  # noqa: BLE001 - one broken log must not end the shard's sessions
            _log.exception("topic.unreadable")
        finally:
            local.waiting = None
        for peer, _ in waiting:
            self.away(peer)

    def answer(self, peer: Subscriber, local: LocalTopic, items: Sequence[Item], upto: int) -> None:
        """Give a session what lies behind its cursor."""
        if peer.open:
            with unharmed(peer):
                peer.carry_out(peer.session.on_topic_read(local, items, upto, self._now_ms()))

    def away(self, peer: Subscriber) -> None:
        """Have a session ask again later."""
        if peer.open:
            with unharmed(peer):
                peer.carry_out(peer.session.on_topic_away(self._now_ms()))


class _Asked:
    """A session that waits for messages of a topic (`Work`)."""

    __slots__ = ("_after", "_local", "_peer", "_reader", "lane")

    def __init__(
        self, reader: TopicReader, peer: Subscriber, local: LocalTopic, after: int
    ) -> None:
        self.lane = local.lane(after)
        self._reader = reader
        self._peer = peer
        self._local = local
        self._after = after

    @property
    def project(self) -> ProjectId:
        return self._local.project

    def drop(self) -> None:
        """Have it ask again later (`Work`)."""
        self._reader.away(self._peer)

    def step(self, most: int) -> tuple[int, bool]:
        """Answer it: that cannot be divided, and is no more than a window."""
        del most
        return 1 + self._reader.serve(self._peer, self._local, self._after), False


class _Answer(_Asked):
    """What a read of the log brought for one of those that waited for it."""

    __slots__ = ("_items", "_upto")

    def __init__(
        self,
        reader: TopicReader,
        peer: Subscriber,
        local: LocalTopic,
        after: int,
        items: Sequence[Item],
        upto: int,
    ) -> None:
        super().__init__(reader, peer, local, after)
        self._items = items
        self._upto = upto

    @override
    def step(self, most: int) -> tuple[int, bool]:
        # Since it was read messages may have been taken back, or have come in: the tail knows.
        given = self._reader.serve_tail(self._peer, self._local, self._after)
        if given is not None:
            return 1 + given, False
        found = [item for item in self._items if item.seq > self._after]
        self._reader.answer(self._peer, self._local, found, self._upto)
        return 1 + len(found), False


def _items(project: ProjectId, previous: int, entries: Sequence[LogEntry]) -> list[Item]:
    items: list[Item] = []
    for entry in entries:
        item = Item(
            project,
            entry.seq,
            previous,
            entry.message,
            entry.expires_ms,
            entry.receipts,
            entry.collapse_key,
            entry.frame,
            selection=selection_of(entry.selection),
        )
        items.append(item)
        previous = entry.seq
    return items
