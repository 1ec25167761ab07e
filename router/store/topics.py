"""Topics: their logs, and who follows them.

Before: `router.publish`, `gateway.shard.topics`, `router.redelivery`. After: `lua/<function>.lua`.
The log and what belongs to it stand in the topic's partition, a device's cursors in its mailbox: no
function needs both.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Final, NamedTuple, cast

from router.model.hint import Publish
from router.model.ids import (
    DeviceId,
    MessageId,
    ProjectId,
    ShardId,
    TopicName,
    all_partitions,
    partition_of,
    partition_of_message,
    partition_of_topic,
)
from router.model.message import ReceiptMode
from router.model.receipt import Event
from router.model.status import MessageStatus
from router.model.topic import (
    DeviceEvent,
    LogEntry,
    LogPage,
    Published,
    PublishResult,
    TopicEnvelope,
    TopicStats,
)
from router.store import keys
from router.store.connection import Store
from router.store.devices import text
from router.store.link import Argument, Reply, fields
from router.store.messages import TOPIC_MARK, read_status
from router.store.rates import number
from router.store.subscriptions import Subscriptions
from router.store.timers import ISSUE

PAGE: Final = 128
"""Messages in one read of a log, and cursors or events in one call of a function."""
_REPEATED: Final = -4
_THROTTLED: Final = -5
_RECEIPTS: Final = {mode.value[0]: mode for mode in ReceiptMode}


class Cursor(NamedTuple):
    """How far a session's device has acked a topic."""

    device: DeviceId
    epoch: int
    topic: TopicName
    seq: int


class Retracted(NamedTuple):
    """What a message was withdrawn from; `seq` is 0 where its log did not hold it."""

    status: MessageStatus
    topic: TopicName
    seq: int
    shards: tuple[ShardId, ...]


class Issued(NamedTuple):
    """A scheduled message that was published, and the shards to tell."""

    hint: Publish
    shards: tuple[ShardId, ...]


class Topics(Subscriptions):
    """Topic logs, on top of the subscriptions.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome; then `count` may count twice.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._retention_ms = store.options.retention_ms

    # Publishing.

    def begin_publish(
        self, envelope: TopicEnvelope, *, urgent: bool = False
    ) -> asyncio.Future[Reply]:
        """Begin to append a message to its log, or to keep it until then.

        `published` reads the answer. An urgent one leaves before all that wait and are not.
        """
        project, topic = envelope.project, envelope.topic
        partition = partition_of_topic(project, topic)
        idempotency: tuple[str, ...] = ()
        if envelope.idempotency_key:
            idempotency = (keys.idempotency(partition, project, envelope.idempotency_key),)
        head: tuple[Argument, ...] = (
            envelope.message,
            f"{TOPIC_MARK}{topic}",
            project,
            envelope.now_ms,
            envelope.expires_ms,
            envelope.collapse_key,
            envelope.receipts.value[0],
            envelope.frame,
            envelope.selection,
        )
        tail = (
            self._retention_ms,
            envelope.idempotency_digest,
            envelope.label,
            number(envelope.rate.per_s),
            number(envelope.rate.burst),
            envelope.bridge,
            envelope.part,
        )
        if envelope.send_at_ms:
            return self._store.batch.fcall(
                self._function("defer"),
                (
                    keys.topic_state(project, topic),
                    keys.timers(partition),
                    keys.outbox(partition),
                    keys.message(envelope.message),
                    *idempotency,
                ),
                (*head, envelope.send_at_ms, *tail),
            )
        return self._store.batch.fcall(
            self._function("publish"),
            (
                keys.topic_log(project, topic),
                keys.topic_state(project, topic),
                keys.topic_collapse(project, topic),
                keys.topic_shards(project, topic),
                keys.timers(partition),
                keys.outbox(partition),
                keys.message(envelope.message),
                *idempotency,
            ),
            (*head, *tail),
            urgent=urgent,
        )

    @staticmethod
    def published(envelope: TopicEnvelope, reply: Reply) -> Published:
        """Read what `begin_publish` was answered."""
        first, *rest = fields(reply)
        seq = cast("int", first)
        if seq == _REPEATED:
            return Published(PublishResult.REPEATED, MessageId(text(rest[0])))
        if seq == _THROTTLED:
            wait_us = cast("int", rest[0])
            return Published(PublishResult.THROTTLED, envelope.message, wait_us=wait_us)
        if seq < 0:
            return Published(PublishResult.KEY_REUSED, envelope.message)
        previous, shards = cast("int", rest[0]), _shards(rest[1:])
        return Published(PublishResult.ACCEPTED, envelope.message, seq, previous, shards)

    async def retract(
        self, message: MessageId, project: ProjectId, now_ms: int
    ) -> Retracted | None:
        """Take a message out of its log; None where the project has no such message."""
        partition = partition_of_message(message)
        reply = await self._store.batch.fcall(
            self._function("retract"),
            (keys.timers(partition), keys.outbox(partition), keys.message(message)),
            (message, project, now_ms, self._retention_ms),
        )
        if reply is None:
            return None
        status, target, seq, *shards = fields(reply)
        known = read_status(message, status)
        if known is None:
            return None
        topic = TopicName(text(target).removeprefix(TOPIC_MARK))
        return Retracted(known, topic, cast("int", seq), _shards(shards))

    async def issue(self, message: MessageId, now_ms: int) -> Issued | None:
        """Publish a scheduled message that is due; None where nothing was published."""
        partition = partition_of_message(message)
        head = await self._store.batch.call("HGET", keys.message(message), "i")
        if head is None:
            await self._store.batch.call("ZREM", keys.timers(partition), f"{ISSUE}:{message}")
            return None
        named, target = text(head).split("|", 2)[:2]
        project, topic = ProjectId(named), TopicName(target.removeprefix(TOPIC_MARK))
        reply = fields(
            await self._store.batch.fcall(
                self._function("issue"),
                (
                    keys.topic_log(project, topic),
                    keys.topic_state(project, topic),
                    keys.topic_collapse(project, topic),
                    keys.topic_shards(project, topic),
                    keys.timers(partition),
                    keys.outbox(partition),
                    keys.message(message),
                ),
                (message, now_ms, self._retention_ms),
            )
        )
        if not reply:
            return None
        seq, previous, expires, receipts, key, frame, selection, *shards = reply
        hint = Publish(
            project,
            topic,
            cast("int", seq),
            cast("int", previous),
            message,
            cast("int", expires),
            _RECEIPTS[text(receipts)],
            text(key),
            cast("bytes", frame),
            selection=text(selection),
        )
        return Issued(hint, _shards(shards))

    # Reading.

    async def heads(self, project: ProjectId, topics: Sequence[TopicName]) -> dict[TopicName, int]:
        """Give the seq of each topic's last message; 0 where there is none."""
        batch = self._store.batch
        asked = [
            (topic, batch.call("HGET", keys.topic_state(project, topic), "seq")) for topic in topics
        ]
        return {topic: int(text(await reply) or 0) for topic, reply in asked}

    async def read(self, project: ProjectId, topic: TopicName, after: int) -> LogPage:
        """Read a page of a log from behind a seq."""
        batch = self._store.batch
        # In this order: what the head counts already stands in the log.
        head = batch.call("HGET", keys.topic_state(project, topic), "seq")
        found = batch.call(
            "XRANGE", keys.topic_log(project, topic), f"({after}-0", "+", "COUNT", PAGE
        )
        known = int(text(await head) or 0)
        entries = tuple(_entry(fields(entry)) for entry in fields(await found))
        last = entries[-1].seq if entries else after
        if len(entries) == PAGE:
            return LogPage(entries, last, full=True)
        return LogPage(entries, max(last, known), full=False)

    async def stats(self, project: ProjectId, topic: TopicName) -> TopicStats:
        """Count subscribers and messages."""
        batch = self._store.batch
        counts = [
            batch.call("SCARD", keys.members(partition, project, topic))
            for partition in all_partitions()
        ]
        length = batch.call("XLEN", keys.topic_log(project, topic))
        subscribers = sum([cast("int", await count) for count in counts])
        return TopicStats(subscribers, cast("int", await length))

    # Shards.

    async def follow(self, project: ProjectId, topic: TopicName, shard: ShardId) -> int:
        """Have a topic's messages sent to a shard; gives the seq of the last one before."""
        reply = await self._store.batch.fcall(
            self._function("follow"),
            (keys.topic_state(project, topic), keys.topic_shards(project, topic)),
            (shard,),
        )
        return cast("int", reply)

    async def unfollow(self, project: ProjectId, topic: TopicName, shard: ShardId) -> None:
        """Have no more sent."""
        await self._store.batch.call("HDEL", keys.topic_shards(project, topic), shard)

    def save_cursors(self, cursors: Sequence[Cursor]) -> Coroutine[None, None, None]:
        """Note how far devices have acked; those of one partition leave in one call, at once."""
        grouped: dict[str, list[Cursor]] = {}
        for cursor in cursors:
            grouped.setdefault(partition_of(cursor.device), []).append(cursor)
        calls = [
            self._store.batch.fcall(
                self._function("save_cursors"),
                [keys.mailbox(one.device) for one in group[start : start + PAGE]],
                [
                    part
                    for one in group[start : start + PAGE]
                    for part in (one.epoch, one.topic, one.seq)
                ],
            )
            for group in grouped.values()
            for start in range(0, len(group), PAGE)
        ]
        return _all(calls)

    def count(
        self, message: MessageId, project: ProjectId, events: Mapping[Event, int], now_ms: int
    ) -> asyncio.Future[Reply]:
        """Add what devices did with a message to its status; leaves at once."""
        counted = [part for event, number in events.items() for part in (event.value, number)]
        return self._store.batch.fcall(
            self._function("count"), (keys.message(message),), (project, now_ms, *counted)
        )

    def count_devices(
        self, message: MessageId, project: ProjectId, events: Sequence[DeviceEvent]
    ) -> Coroutine[None, None, None]:
        """Note what each device did with a message, and leave its receipts; leaves at once."""
        keyed = (
            keys.outbox(partition_of_message(message)),
            keys.message(message),
            keys.receivers(message),
        )
        calls = [
            self._store.batch.fcall(
                self._function("count_devices"),
                keyed,
                (
                    message,
                    project,
                    *(
                        part
                        for one in events[start : start + PAGE]
                        for part in (one.event.value, one.device, one.time_ms)
                    ),
                ),
            )
            for start in range(0, len(events), PAGE)
        ]
        return _all(calls)


async def _all(calls: Sequence[asyncio.Future[Reply]]) -> None:
    """Wait for calls that were begun."""
    for call in calls:
        await call


def _shards(reply: list[Reply]) -> tuple[ShardId, ...]:
    return tuple(ShardId(text(shard)) for shard in reply)


def _entry(entry: list[Reply]) -> LogEntry:
    seq = text(entry[0]).partition("-")[0]
    _, head, _, frame, *rest = fields(entry[1])
    message, expires, receipts, collapse_key = text(head).split("|", 3)
    return LogEntry(
        int(seq),
        MessageId(message),
        int(expires),
        _RECEIPTS[receipts],
        collapse_key,
        cast("bytes", frame),
        text(rest[1]) if rest else "",
    )
