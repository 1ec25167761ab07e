"""Messages on their way to all sessions of a topic: now where that is little, else in turns.

Before: `gateway.shard.topics`, which brings messages. After: `gateway.shard.writers`, which says
when. The messages of one topic go out in their order, so they are as urgent as the most urgent of
them. What does not wait here, as too much does, is read from the log.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from gateway.shard.local_topic import LocalTopic, Subscriber
from gateway.shard.session.published import Item
from gateway.shard.turns import SLICE
from gateway.shard.writers import Writers
from router.model.ids import ProjectId
from router.model.lane import Lane
from router.telemetry.metrics import Metrics

MAX_FAN_OUTS: Final = 1_000
"""Messages that wait to be written; beyond it sessions read them from the log."""
MAX_OF_TOPIC: Final = 256
"""Those of one topic among them: as many as the shard remembers of its log."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.fan_outs")

Write = Callable[[LocalTopic, Item | None, Sequence[Subscriber]], None]
"""Writes a message to sessions; None has them look at the log."""


class FanOuts:
    """The fan-outs of one shard.

    Args:
        write: carries one out, for some sessions.
        writers: when.
        metrics: how many wait, and for how long.
    """

    def __init__(self, write: Write, writers: Writers, metrics: Metrics) -> None:
        self.write = write
        self._writers = writers
        self._flows: dict[LocalTopic, _FanOut] = {}
        self._room = SLICE
        self._waiting = dict.fromkeys(Lane, 0)
        self._gauges = {lane: metrics.fan_outs_waiting.labels(lane.label) for lane in Lane}
        self._waits = {lane: metrics.fan_out_wait.labels(lane.label) for lane in Lane}

    def put(self, local: LocalTopic, item: Item | None, lane: Lane) -> None:
        """Write a message to all sessions of a topic, or have them look at its log."""
        flow = self._flows.get(local)
        if flow is None and self._goes_now(local, lane):
            self.write(local, item, tuple(local.peers))
            return
        now_s = asyncio.get_running_loop().time()
        full = sum(self._waiting.values()) >= MAX_FAN_OUTS
        if flow is None:
            flow = self._flows[local] = _FanOut(self, local, lane)
            self._writers.add(flow)
        elif lane < flow.lane:
            self._writers.withdraw(flow)
            flow.lane = lane
            self._writers.add(flow)
        full = full or flow.length >= MAX_OF_TOPIC
        flow.put(None if full else item, lane, now_s)

    def show(self) -> None:
        """Set the gauges."""
        for lane, number in self._waiting.items():
            self._gauges[lane].set(number)

    def _goes_now(self, local: LocalTopic, lane: Lane) -> bool:
        """Tell whether the message is so little work that it needs no turn; counts it."""
        count = max(1, len(local.peers))
        if count > self._room:
            return False
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if not self._writers.idle(local.project, lane, now_s):
            return False
        if self._room == SLICE:
            loop.call_soon(self._refresh)
        self._room -= count
        self._writers.charge(local.project, count, now_s)
        return True

    def _refresh(self) -> None:
        self._room = SLICE

    def entered(self, lane: Lane) -> None:
        """Take it that a message waits."""
        self._waiting[lane] += 1

    def left(self, lane: Lane, waited_s: float | None) -> None:
        """Take it that a message is written, or waits in another lane."""
        self._waiting[lane] -= 1
        if waited_s is not None:
            self._waits[lane].observe(waited_s)

    def ended(self, local: LocalTopic) -> None:
        """Take it that nothing of a topic waits any more."""
        del self._flows[local]


class _FanOut:
    """What waits of one topic, in order."""

    __slots__ = ("_at", "_items", "_owner", "_peers", "lane", "local")

    def __init__(self, owner: FanOuts, local: LocalTopic, lane: Lane) -> None:
        self.lane = lane
        self.local = local
        self._owner = owner
        self._items: deque[tuple[Item | None, Lane, float]] = deque()
        self._peers: tuple[Subscriber, ...] | None = None
        """While the first of them is written: to whom."""
        self._at = 0

    @property
    def project(self) -> ProjectId:
        return self.local.project

    @property
    def length(self) -> int:
        return len(self._items)

    def put(self, item: Item | None, lane: Lane, now_s: float) -> None:
        """Put a message behind the others; one look at the log is enough for all."""
        if item is None and (look := self._look()) is not None:
            _, least, since_s = self._items[look]
            if lane >= least:
                return
            self._owner.left(least, None)
            self._items[look] = (None, lane, since_s)
        else:
            self._items.append((item, lane, now_s))
        self._owner.entered(lane)

    def _look(self) -> int | None:
        """Find the look at the log that waits and has not begun."""
        for at, (item, _, _) in enumerate(self._items):
            if item is None and (at > 0 or self._peers is None):
                return at
        return None

    def step(self, most: int) -> tuple[int, bool]:
        """Write the first one to so many sessions (`Work`)."""
        item, lane, since_s = self._items[0]
        if self._peers is None:
            self._peers, self._at = tuple(self.local.peers), 0
        peers = self._peers[self._at : self._at + most]
        self._at += len(peers)
        try:
            self._owner.write(self.local, item, peers)
        except Exception:  # noqa: BLE001 - what is behind it goes on, and the log holds it
            _log.exception("fan_out.failed", project=self.project)
        if self._at >= len(self._peers):
            self._peers = None
            self._items.popleft()
            self._owner.left(lane, asyncio.get_running_loop().time() - since_s)
            if not self._items:
                self._owner.ended(self.local)
                return len(peers), False
            self.lane = min(other for _, other, _ in self._items)
        return len(peers), True
