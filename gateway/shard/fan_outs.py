"""Messages on their way to all sessions of a topic: now where that is little, else in turns.

Before: `gateway.shard.topics`, which brings messages. After: `gateway.shard.writers`, which says
when. The messages of one topic go out in their order, so they are as urgent as the most urgent of
them. Those that wait one behind the other go out together, as a run: each socket gets one write for
them, and its device acks them at once. A turn is worth as many deliveries as ever, so a run of
sixteen goes to a sixteenth of the sessions a turn. What does not wait here, as too much does, is
read from the log.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from gateway.shard.local_topic import LocalTopic, Subscriber
from gateway.shard.session.published import Item, Run
from gateway.shard.turns import SLICE
from gateway.shard.writers import Writers
from router.model.ids import ProjectId
from router.model.lane import Lane
from router.telemetry.metrics import Metrics

MAX_FAN_OUTS: Final = 1_000
"""Messages that wait to be written; beyond it sessions read them from the log."""
MAX_OF_TOPIC: Final = 256
"""Those of one topic among them: as many as the shard remembers of its log."""
MAX_RUN: Final = 16
"""Messages of a topic that go out together."""
MAX_RUN_BYTES: Final = 16_384
"""Bytes of their frames as stored: so much goes to a socket before its buffer is looked at."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.fan_outs")

Write = Callable[[LocalTopic, Run | None, Sequence[Subscriber]], None]
"""Writes messages to sessions; None has them look at the log."""


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
            self.write(local, None if item is None else Run((item,)), tuple(local.peers))
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

    __slots__ = ("_at", "_items", "_owner", "_peers", "_run", "lane", "local")

    def __init__(self, owner: FanOuts, local: LocalTopic, lane: Lane) -> None:
        self.lane = lane
        self.local = local
        self._owner = owner
        self._items: deque[tuple[Item | None, Lane, float]] = deque()
        self._run: Run | None = None
        """The first of them that go out together; None while that is a look at the log."""
        self._peers: tuple[Subscriber, ...] | None = None
        """While these are written: to whom."""
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

    def drop(self) -> None:
        """Give up what waits, as it cannot be written (`Work`): sessions find it in the log."""
        for _, lane, _ in self._items:
            self._owner.left(lane, None)
        self.local.followed = False  # looked at again within `CHECK_S`
        self._owner.ended(self.local)

    def step(self, most: int) -> tuple[int, bool]:
        """Write the first run to a part of the sessions, so many deliveries (`Work`)."""
        if self._peers is None:
            self._peers, self._at = tuple(self.local.peers), 0
            self._run = self._next_run()
        run = self._run
        count = len(run.items) if run is not None else 1
        peers = self._peers[self._at : self._at + max(1, most // count)]
        self._at += len(peers)
        try:
            self._owner.write(self.local, run, peers)
        except Exception:  # noqa: BLE001 - what is behind it goes on, and the log holds it
            _log.exception("fan_out.failed", project=self.project)
            self.local.followed = False  # looked at again within `CHECK_S`
        more = self._at < len(self._peers) or self._finish(count)
        return len(peers) * count, more

    def _next_run(self) -> Run | None:
        """Give what goes out together: the first one, and what follows it closely."""
        first, lane, _ = self._items[0]
        if first is None:
            return None
        items, size = [first], len(first.frame)
        if not first.seq:
            return Run(items)
        for item, other, _ in itertools.islice(self._items, 1, MAX_RUN):
            size += len(item.frame) if item is not None else 0
            if item is None or other is not lane or size > MAX_RUN_BYTES:
                break
            if item.previous != items[-1].seq:
                break
            items.append(item)
        return Run(items)

    def _finish(self, count: int) -> bool:
        """Take it that so many are written to all; True where others wait."""
        self._run = self._peers = None
        now_s = asyncio.get_running_loop().time()
        for _ in range(count):
            _, lane, since_s = self._items.popleft()
            self._owner.left(lane, now_s - since_s)
        if not self._items:
            self._owner.ended(self.local)
            return False
        self.lane = min(other for _, other, _ in self._items)
        return True
