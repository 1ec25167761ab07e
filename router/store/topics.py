"""Topics: their logs, who follows them, and what devices subscribe to.

Before: `router.publish`, `router.subscription`, `gateway.shard.topics`. After:
`lua/<function>.lua`. The log and what belongs to it stand in the topic's partition, a device's
cursors in its mailbox: no function needs both.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

from router.model.hint import Route
from router.model.ids import (
    DeviceId,
    MessageId,
    ProjectId,
    ShardId,
    TopicName,
    all_partitions,
    parse_topic,
    partition_of,
    partition_of_message,
    partition_of_topic,
)
from router.model.message import ReceiptMode
from router.model.receipt import Event
from router.model.status import MessageStatus
from router.model.topic import (
    MAX_TOPICS,
    DeviceEvent,
    LogEntry,
    LogPage,
    Published,
    PublishResult,
    SubscribeResult,
    TopicEnvelope,
    TopicStats,
)
from router.store import keys
from router.store.connection import Store
from router.store.devices import optional_route, text
from router.store.link import Reply, fields
from router.store.messages import read_status
from router.store.rates import number

PAGE: Final = 128
"""Messages in one read of a log, and cursors or events in one call of a function."""
_REFUSALS: Final = {
    -1: SubscribeResult.UNREGISTERED,
    -2: SubscribeResult.SENDER_ID_MISMATCH,
    -3: SubscribeResult.TOO_MANY,
}
_REPEATED: Final = -4
_THROTTLED: Final = -5
_RECEIPTS: Final = {mode.value[0]: mode for mode in ReceiptMode}


class Subscriber(NamedTuple):
    """Whose subscriptions change, and how that is proven: by its token's nonce or its epoch."""

    device: DeviceId
    nonce: str = ""
    epoch: int = 0


class Changed(NamedTuple):
    """How a change ended, and the session to tell of it."""

    result: SubscribeResult
    changed: bool = False
    route: Route | None = None


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


class Topics:
    """Topic logs and subscriptions.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome; then `count` may count twice.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        self._retention_ms = store.options.retention_ms
        self._ack_timeout_ms = store.options.ack_timeout_ms

    # Publishing.

    def begin_publish(
        self, envelope: TopicEnvelope, *, urgent: bool = False
    ) -> asyncio.Future[Reply]:
        """Begin to append a message to its log; `published` reads the answer.

        An urgent one leaves before all that wait and are not.
        """
        project, topic = envelope.project, envelope.topic
        partition = partition_of_topic(project, topic)
        idempotency: tuple[str, ...] = ()
        if envelope.idempotency_key:
            idempotency = (keys.idempotency(partition, project, envelope.idempotency_key),)
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
            (
                envelope.message,
                f"/topics/{topic}",
                project,
                envelope.now_ms,
                envelope.expires_ms,
                envelope.collapse_key,
                envelope.receipts.value[0],
                envelope.frame,
                self._retention_ms,
                envelope.idempotency_digest,
                envelope.label,
                number(envelope.rate.per_s),
                number(envelope.rate.burst),
            ),
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
        shards = tuple(ShardId(text(shard)) for shard in rest[1:])
        previous = cast("int", rest[0])
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
        known, topic = read_status(message, status), parse_topic(text(target))
        if known is None or topic is None:
            return None
        named = tuple(ShardId(text(shard)) for shard in shards)
        return Retracted(known, topic, cast("int", seq), named)

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

    async def save_cursors(self, cursors: Sequence[Cursor]) -> None:
        """Note how far devices have acked; those of one partition leave in one call."""
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
        for call in calls:
            await call

    async def count(
        self, message: MessageId, project: ProjectId, events: Mapping[Event, int], now_ms: int
    ) -> None:
        """Add what devices did with a message to its status."""
        counted = [part for event, number in events.items() for part in (event.value, number)]
        await self._store.batch.fcall(
            self._function("count"), (keys.message(message),), (project, now_ms, *counted)
        )

    async def count_devices(
        self, message: MessageId, project: ProjectId, events: Sequence[DeviceEvent]
    ) -> None:
        """Note what each device did with a message, and leave its receipts."""
        for start in range(0, len(events), PAGE):
            told = [
                part
                for one in events[start : start + PAGE]
                for part in (one.event.value, one.device, one.time_ms)
            ]
            await self._store.batch.fcall(
                self._function("count_devices"),
                (
                    keys.outbox(partition_of_message(message)),
                    keys.message(message),
                    keys.receivers(message),
                ),
                (message, project, *told),
            )

    # Subscriptions.

    async def subscribe(
        self, project: ProjectId, who: Subscriber, topics: Mapping[TopicName, int], now_ms: int
    ) -> Changed:
        """Subscribe a device to all these topics, each from behind a seq, or to none."""
        listed = [part for topic, seq in topics.items() for part in (topic, seq)]
        reply = await self._store.batch.fcall(
            self._function("subscribe"),
            _subscription_keys(project, who.device, topics),
            (
                who.device,
                project,
                who.nonce,
                who.epoch or "",
                MAX_TOPICS,
                self._remind(who, now_ms),
                *listed,
            ),
        )
        return _changed(fields(reply))

    async def unsubscribe(
        self, project: ProjectId, who: Subscriber, topics: Sequence[TopicName], now_ms: int
    ) -> Changed:
        """End subscriptions of a device."""
        reply = await self._store.batch.fcall(
            self._function("unsubscribe"),
            _subscription_keys(project, who.device, topics),
            (
                who.device,
                project,
                who.nonce,
                who.epoch or "",
                self._remind(who, now_ms),
                *topics,
            ),
        )
        return _changed(fields(reply))

    async def subscriptions(
        self, device: DeviceId, epoch: int
    ) -> tuple[tuple[TopicName, int], ...] | None:
        """Read a device's topics for its session; None where the epoch is stale."""
        reply = await self._store.batch.fcall(
            self._function("subscriptions"),
            (keys.mailbox(device), keys.timers(partition_of(device))),
            (device, epoch),
        )
        return None if reply is None else read_subscriptions(reply)

    def _remind(self, who: Subscriber, now_ms: int) -> int:
        """Tell when a timer looks after a change that the session did not make itself."""
        return 0 if who.epoch else now_ms + self._ack_timeout_ms


def read_subscriptions(reply: Reply) -> tuple[tuple[TopicName, int], ...]:
    """Read topics and cursors, given as topic, cursor, topic, cursor."""
    flat = fields(reply)
    return tuple(
        (TopicName(text(topic)), int(text(cursor)))
        for topic, cursor in zip(flat[::2], flat[1::2], strict=True)
    )


def _subscription_keys(
    project: ProjectId, device: DeviceId, topics: Mapping[TopicName, int] | Sequence[TopicName]
) -> tuple[str, ...]:
    partition = partition_of(device)
    members = [keys.members(partition, project, topic) for topic in topics]
    return (keys.mailbox(device), keys.timers(partition), *members)


def _changed(reply: list[Reply]) -> Changed:
    changed = cast("int", reply[0])
    if changed < 0:
        return Changed(_REFUSALS[changed])
    return Changed(SubscribeResult.DONE, changed > 0, optional_route(reply, 1))


def _entry(entry: list[Reply]) -> LogEntry:
    seq = text(entry[0]).partition("-")[0]
    _, head, _, frame = fields(entry[1])
    message, expires, receipts, collapse_key = text(head).split("|", 3)
    return LogEntry(
        int(seq),
        MessageId(message),
        int(expires),
        _RECEIPTS[receipts],
        collapse_key,
        cast("bytes", frame),
    )
