"""Which sessions of this shard subscribe to what; from a topic's log to their sockets.

Before: `gateway.shard.registry`, which brings hints and what sessions ask for. After: the sessions,
which decide what goes out, and `router.store.topics`. A message is read once, from its hint or from
the log, and its frame is built once, whoever gets it. The shard follows a topic as long as it has a
subscriber; a hint that was lost shows in the next one, or when the log is looked at again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Final

import msgspec
import structlog

from gateway.shard.events import (
    ChangeTopics,
    CursorsMoved,
    ReadSubscriptions,
    ReadTopic,
    SaveCursors,
    TopicAction,
    TopicEngaged,
)
from gateway.shard.fan_outs import FanOuts
from gateway.shard.local_topic import LocalTopic, Subscriber, fail, selection_of, unharmed
from gateway.shard.pace import Pace
from gateway.shard.profiles import Profiles
from gateway.shard.session.published import Item, Run, Topic
from gateway.shard.tail import Tails
from gateway.shard.topic_ledger import TopicLedger
from gateway.shard.topic_reader import TopicReader
from gateway.shard.turns import Turns
from gateway.shard.writers import Writers
from router.model.errors import ErrorCode, PushError
from router.model.hint import Advance, Publish, TopicHint
from router.model.ids import BROADCAST, DeviceId, ProjectId, ShardId, TopicName
from router.model.lane import Lane
from router.model.topic import Standing
from router.store.topics import Topics
from router.subscription import Subscription
from router.telemetry.metrics import Metrics

CHECK_S: Final = 30
"""Seconds in which every topic is looked at once: its tail, and whether anybody subscribes."""
CURSORS_S: Final = 3
"""Seconds between two rounds of storing cursors."""
_TICK_S: Final = 1.0
_GROUP: Final = 200

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.topics")

_Key = tuple[ProjectId, TopicName]


class Bounds(msgspec.Struct, frozen=True):
    """What topics may take of a shard."""

    turns: Turns
    """When sessions are written to, shared with the inbox."""
    fan_out_rate: float = 0
    """Deliveries a second and project; 0 for as many as there are."""
    tail_bytes: int = 67_108_864
    """What may be remembered of the ends of logs."""


class TopicIndex:
    """The topics of one shard.

    Args:
        shard: the id under which topics are followed.
        topics: the logs.
        subscription: where devices' subscriptions change.
        metrics: of this process.
        ledger: what sessions tell of their topics, on its way into the store.
        tasks: owns the calls of the store.
        bounds: what topics may take of the shard.
    """

    def __init__(
        self,
        shard: ShardId,
        topics: Topics,
        subscription: Subscription,
        metrics: Metrics,
        ledger: TopicLedger,
        tasks: asyncio.TaskGroup,
        bounds: Bounds | None = None,
    ) -> None:
        bounds = bounds or Bounds(Turns())
        self._shard = shard
        self._store = topics
        self._subscription = subscription
        self._metrics = metrics
        self._ledger = ledger
        self._now_ms = ledger.now_ms
        self._tasks = tasks
        writers = Writers(bounds.turns, Pace(bounds.fan_out_rate), metrics, tasks)
        self._tails = Tails(bounds.tail_bytes)
        self._reader = TopicReader(topics, metrics, ledger.now_ms, tasks, writers, self._tails)
        self._profiles = Profiles()
        self._topics: dict[_Key, LocalTopic] = {}
        self._siblings: dict[ProjectId, dict[TopicName, Topic]] = {}
        self._unfollowed: dict[LocalTopic, None] = {}
        self._following = False
        self._fan_outs = FanOuts(self._write, writers, metrics)
        self._round: deque[LocalTopic] = deque()
        self._share = 0
        self._cursors_due = CURSORS_S
        self._saving = False

    # Sessions.

    def joined(self, peer: Subscriber, standing: Standing) -> None:
        """Take all topics of a session's device, with the cursors that are stored."""
        session = peer.session
        pairs = [(self._local(session.project, name), cursor) for name, cursor in standing.topics]
        everybody = self._local(session.project, BROADCAST)
        kept = {topic for topic, _ in pairs}
        kept.add(everybody)
        try:
            for topic in session.topics:
                if topic not in kept and isinstance(topic, LocalTopic):
                    topic.peers.discard(peer)
            for topic in kept:
                topic.peers.add(peer)
            actions = session.on_topics(
                pairs,
                self._now_ms(),
                self._profiles.share(standing.profile),
                (everybody, standing.broadcast),
            )
        except Exception:
            # A broken session knows no topics from which `left` could take it.
            for topic in kept:
                topic.peers.discard(peer)
            raise
        peer.carry_out(actions)

    def left(self, peer: Subscriber) -> None:
        """Take it that a session is over."""
        session = peer.session
        for topic in (*session.topics, self._topics.get((session.project, BROADCAST))):
            if isinstance(topic, LocalTopic):
                topic.peers.discard(peer)
        self._ledger.left(peer)

    def perform(self, peer: Subscriber, device: DeviceId, action: TopicAction) -> None:
        """Carry out what a session asks for."""
        session = peer.session
        match action:
            case ReadTopic():
                local = self._topics.get((session.project, action.topic))
                if local is not None:
                    self._reader.ask(peer, local, action)
            case CursorsMoved():
                self._ledger.moved(peer)
            case SaveCursors():
                self._ledger.ended(device, session.epoch, action.cursors)
                if not self._saving:
                    self._saving = True
                    self._start(self._save_ended(), "cursors-save")
            case TopicEngaged():
                self._ledger.engaged(session.project, device, action)
            case ChangeTopics():
                self._start(self._change(peer, device, action), "topics-change")
            case ReadSubscriptions():
                self._start(self._reread(peer, device), "topics-read")

    async def _save_ended(self) -> None:
        # At once: the device's next session reads them as it begins, and then they are void.
        self._saving = False
        await self._ledger.save_ended()

    async def _change(self, peer: Subscriber, device: DeviceId, action: ChangeTopics) -> None:
        session = peer.session
        error, code = None, "UNAVAILABLE"
        try:
            await self._subscription.change_device(
                session.project,
                device,
                session.epoch,
                action.topics,
                subscribe=action.subscribe,
            )
            await self._refresh(peer, device)
            if action.subscribe:  # what is published after the answer is heard, with a TTL of 0 too
                found = [self._topics.get((session.project, name)) for name in action.topics]
                await self._follow([one for one in found if one and one in self._unfollowed])
        except PushError as failure:
            error = failure.message
            if failure.code is ErrorCode.QUOTA_EXCEEDED:
                code = "TOO_MANY_TOPICS"
        if peer.open:
            with unharmed(peer):
                peer.carry_out(session.on_done(action.ref, error, self._now_ms(), code))

    async def _reread(self, peer: Subscriber, device: DeviceId) -> None:
        # Where the store is away, its timer reminds of it.
        with contextlib.suppress(PushError):
            await self._refresh(peer, device)

    async def _refresh(self, peer: Subscriber, device: DeviceId) -> None:
        listed = await self._store.subscriptions(device, peer.session.epoch)
        if listed is not None and peer.open:
            with unharmed(peer):
                self.joined(peer, listed)

    # What the inbox brings.

    def dispatch(self, hint: TopicHint) -> None:
        """Take a message that was published, or one that was taken back."""
        local = self._topics.get((hint.project, hint.topic))
        if local is None:
            return
        if isinstance(hint, Advance):
            self._advance(local, hint)
            return
        if not isinstance(hint, Publish):
            local.retract(hint.seq)
            return
        item = Item(
            hint.project,
            hint.seq,
            hint.previous,
            hint.message,
            hint.expires_ms,
            hint.receipts,
            hint.collapse_key,
            hint.frame,
            hint.lane,
            selection_of(hint.selection),
        )
        if item.seq:
            if item.seq <= local.head:
                return
            local.head = item.seq
            item.gone = local.was_retracted(item.seq)
            if not local.tail.publish(item) and local.followed:
                self._metrics.topic_gaps.inc()
            self._tails.used(local.tail)
            if item.lane.urgent:
                local.urgent_seq, local.urgent_lane = item.seq, item.lane
        self._fan_outs.put(local, item, item.lane)

    def _advance(self, local: LocalTopic, hint: Advance) -> None:
        """Take it that a log goes on to a seq whose message is left for its sessions to read."""
        if hint.seq <= local.head:
            return
        local.head = hint.seq
        local.tail.jump(hint.seq)
        self._tails.used(local.tail)
        if hint.lane.urgent:
            local.urgent_seq, local.urgent_lane = hint.seq, hint.lane
        self._fan_outs.put(local, None, hint.lane)

    def _write(self, local: LocalTopic, run: Run | None, peers: Sequence[Subscriber]) -> None:
        now_ms = self._now_ms()
        if run is None:
            self._look(local, peers, now_ms)
            return
        run.look(now_ms)
        for peer in peers:
            try:
                if actions := peer.session.on_published(local, run, now_ms):
                    peer.carry_out(actions)
            except Exception:  # noqa: BLE001 - one broken session must not stop the others
                fail(peer)

    @staticmethod
    def _look(local: LocalTopic, peers: Sequence[Subscriber], now_ms: int) -> None:
        for peer in peers:
            with unharmed(peer):
                if actions := peer.session.on_tail(local, now_ms):
                    peer.carry_out(actions)

    # Following.

    def _local(self, project: ProjectId, name: TopicName) -> LocalTopic:
        local = self._topics.get((project, name))
        if local is None:
            siblings = self._siblings.setdefault(project, {})
            local = LocalTopic(project, name, self._ledger.counts, siblings)
            self._topics[(project, name)] = siblings[name] = local
            self._metrics.topics_followed.inc()
            self._unfollowed[local] = None
            self._follow_soon()
        return local

    def _follow_soon(self) -> None:
        if self._unfollowed and not self._following:
            self._following = True
            self._start(self._follow_all(), "topics-follow")

    async def _follow_all(self) -> None:
        try:
            while self._unfollowed:
                group = list(self._unfollowed)[:_GROUP]
                if not await self._follow(group):
                    return  # the store is away; the next tick tries again
        finally:
            self._following = False

    async def _follow(self, group: Sequence[LocalTopic]) -> bool:
        """Say that these are followed, and look whether something of them is not known."""
        failed: list[LocalTopic] = []

        async def one(local: LocalTopic) -> None:
            try:
                head = await self._store.follow(local.project, local.name, self._shard)
            except PushError:
                failed.append(local)
                return
            self._unfollowed.pop(local, None)
            news = head > local.head
            if news:
                if local.followed:
                    self._metrics.topic_gaps.inc()
                local.head = head
                local.tail.jump(head)
                self._tails.used(local.tail)
            if news or not local.followed:
                local.followed = True
                self._fan_outs.put(local, None, Lane.NORMAL)

        async with asyncio.TaskGroup() as tasks:
            for local in group:
                tasks.create_task(one(local))
        return not failed

    async def run(self) -> None:
        """Store what sessions tell, and look after every topic now and then; until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self._tick()
            except Exception:  # noqa: BLE001 - a defect here must not end the shard's sessions
                _log.exception("topics.failed")

    async def _tick(self) -> None:
        self._follow_soon()
        self._cursors_due -= 1
        everything = self._cursors_due <= 0
        if everything:
            self._cursors_due = CURSORS_S
        self._fan_outs.show()
        self._metrics.topic_tail_bytes.set(self._tails.bytes)
        await self._ledger.flush(cursors=everything)
        await self._check()

    async def _check(self) -> None:
        """Look at a part of the topics, so that each has its turn within `CHECK_S`."""
        if not self._round:
            self._round.extend(self._topics.values())
            self._share = -(-len(self._round) // CHECK_S)
        again: list[LocalTopic] = []
        for _ in range(min(self._share, len(self._round))):
            local = self._round.popleft()
            if local.peers:
                local.idle = False
                again.append(local)
            elif not local.idle:
                local.idle = True
                again.append(local)
            else:
                self._forget(local)
        for start in range(0, len(again), _GROUP):
            await self._follow(again[start : start + _GROUP])

    def _forget(self, local: LocalTopic) -> None:
        """Follow a topic no more that nobody here subscribes to."""
        del self._topics[(local.project, local.name)]
        self._tails.drop(local.tail)
        siblings = self._siblings[local.project]
        del siblings[local.name]
        if not siblings:
            del self._siblings[local.project]
        self._unfollowed.pop(local, None)
        self._metrics.topics_followed.dec()
        self._start(self._unfollow(local), "topic-unfollow")

    async def _unfollow(self, local: LocalTopic) -> None:
        # Where the store is away, it forgets this shard by itself.
        with contextlib.suppress(PushError):
            await self._store.unfollow(local.project, local.name, self._shard)

    def _start(self, call: Coroutine[None, None, None], name: str) -> None:
        self._tasks.create_task(_logged(call), name=name)


async def _logged(call: Coroutine[None, None, None]) -> None:
    """Keep a defect from ending the shard's sessions."""
    try:
        await call
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("topics.failed")
