"""Reads topic logs for sessions that are behind: from tails, else from the store.

Before: `gateway.shard.topics`. After: `router.store.topics`, then the sessions. Of each topic one
read is under way at a time, from behind the least that anybody waits for: a storm of reconnects
becomes a few reads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from gateway.shard.events import ReadTopic
from gateway.shard.local_topic import LocalTopic, Subscriber, unharmed
from gateway.shard.session.cursors import Item
from router.model.errors import PushError
from router.model.ids import ProjectId
from router.model.topic import LogEntry
from router.store.topics import PAGE, Topics
from router.telemetry.metrics import Metrics

SLICE: Final = 256
"""Sessions that are answered before others have their turn."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.topics")


class TopicReader:
    """Answers `ReadTopic`.

    Args:
        topics: the logs.
        metrics: counts reads.
        now_ms: the clock, epoch milliseconds.
        tasks: owns the calls of the store.
    """

    def __init__(
        self,
        topics: Topics,
        metrics: Metrics,
        now_ms: Callable[[], int],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._store = topics
        self._metrics = metrics
        self._now_ms = now_ms
        self._tasks = tasks
        self._asked: deque[tuple[Subscriber, LocalTopic, int]] = deque()

    def ask(self, peer: Subscriber, local: LocalTopic, action: ReadTopic) -> None:
        """Answer a session, in a later turn of the loop."""
        self._asked.append((peer, local, action.after))
        if len(self._asked) == 1:
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Answer some reads from tails, and have the store asked for the others."""
        for _ in range(min(SLICE, len(self._asked))):
            peer, local, after = self._asked.popleft()
            tail = local.tail
            if tail.covers(after) and (after < tail.top or tail.top >= local.head):
                self._metrics.topic_reads.labels("tail").inc()
                self._answer(local, peer, *tail.read(after, PAGE))
            elif local.waiting is None:
                local.waiting = [(peer, after)]
                self._tasks.create_task(self._read_log(local, local.waiting), name="topic-read")
            else:
                local.waiting.append((peer, after))
        if self._asked:
            asyncio.get_running_loop().call_soon(self._serve)

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
                # Who came meanwhile may be behind what was read, and waits for the next read.
                reached = max(upto, after + 1)
                served = [one for one in waiting if after <= one[1] < reached]
                waiting[:] = [one for one in waiting if not after <= one[1] < reached]
                for at, (peer, start) in enumerate(served, 1):
                    found = [item for item in items if item.seq > start]
                    self._answer(local, peer, found, upto)
                    if at % SLICE == 0:
                        await asyncio.sleep(0)
        except PushError:
            self._away(waiting)
        except Exception:  # noqa: BLE001 - one broken log must not end the shard's sessions
            _log.exception("topic.unreadable")
            self._away(waiting)
        finally:
            local.waiting = None

    def _answer(
        self, local: LocalTopic, peer: Subscriber, items: Sequence[Item], upto: int
    ) -> None:
        if peer.open:
            with unharmed(peer):
                peer.carry_out(peer.session.on_topic_read(local, items, upto, self._now_ms()))

    def _away(self, waiting: list[tuple[Subscriber, int]]) -> None:
        for peer, _ in waiting:
            if peer.open:
                with unharmed(peer):
                    peer.carry_out(peer.session.on_topic_away(self._now_ms()))


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
        )
        items.append(item)
        previous = entry.seq
    return items
