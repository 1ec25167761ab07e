"""Walks over the devices of a topic that bridges reach, partition by partition.

Before: `router.walk`. After: `lua/walk_put.lua`, which makes a job for each device as `enqueue`
does for a message to one. A walk has a checkpoint in the message's status; a mark in each partition
keeps a walk that is done again from giving a device a second job.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from router.model.ids import (
    DeviceId,
    MessageId,
    Partition,
    ProjectId,
    TopicName,
    all_partitions,
    partition_of,
    partition_of_message,
)
from router.model.selection import Profile
from router.policy.limits import WINDOW
from router.store import keys
from router.store.connection import Store
from router.store.devices import text
from router.store.link import fields
from router.store.messages import TOPIC_MARK
from router.store.timers import REACH, WALK

_PROFILE: Final = ("pl", "av", "la", "rg", "at")
_SETTLE_MS: Final = 6_000
"""Acks of topics are noted after some seconds (`gateway.shard.topics`): a bridge waits for that."""
_FLAG_MS: Final = 400 * 86_400_000
"""Longer than a registration of a bridge lasts that nobody renews."""
_TOPIC: Final = "t:"


class Place(NamedTuple):
    """How far a walk has come; empty at its beginning and behind its end."""

    partition: str = ""
    cursor: str = ""
    """Of SSCAN; empty at the beginning of the partition."""
    run: str = ""
    """Of the server that gave the cursor; empty where one window may be all."""


class Walk(NamedTuple):
    """A message whose devices are to be walked over; times in epoch milliseconds."""

    message: MessageId
    project: ProjectId
    topic: TopicName
    seq: int
    created_ms: int
    expires_ms: int
    policy: str
    receipts: str
    selection: str
    place: Place


class Walker(NamedTuple):
    """A device, as far as a selection asks for it."""

    device: DeviceId
    profile: Profile
    topics: frozenset[TopicName]


class Walks:
    """Walks in the store.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        self._ack_timeout_ms = store.options.ack_timeout_ms

    async def walk(self, message: MessageId) -> Walk | None:
        """Read what is to be walked; None where the message has ended, or nothing is left."""
        names = ("i", "bb", "r", "s", "bw", "e:cancelled", "e:collapsed", "e:dropped")
        found = fields(await self._store.batch.call("HMGET", keys.message(message), *names))
        head, policy, receipts, selection, place, *ended = map(text, found)
        if not head or not policy or any(ended):
            return None
        project, target, created, expires, send_at, seq, _ = head.split("|", 6)
        began_ms = max(int(created), int(send_at))
        ends_ms = int(expires)
        if expires == created:
            ends_ms = began_ms + self._ack_timeout_ms
        topic = TopicName(target.removeprefix(TOPIC_MARK))
        return Walk(
            *(message, ProjectId(project), topic, int(seq), began_ms, ends_ms),
            *(policy, receipts, selection, Place(*place.split("|"))),
        )

    async def partitions(self, walk: Walk) -> list[Partition]:
        """List the partitions that have any device to walk over, in order."""
        batch = self._store.batch
        asked = [
            (partition, batch.call("SCARD", keys.bridged(partition, walk.project, walk.topic)))
            for partition in all_partitions()
        ]
        return [partition for partition, count in asked if await count]

    async def members(self, walk: Walk, at: Place) -> tuple[str, list[DeviceId]]:
        """Read about a window of devices; an empty cursor says that these were the last."""
        key = keys.bridged(Partition(at.partition), walk.project, walk.topic)
        reply = await self._store.batch.call("SSCAN", key, at.cursor or "0", "COUNT", WINDOW)
        following, found = fields(reply)
        after = text(following)
        return "" if after == "0" else after, [DeviceId(text(one)) for one in fields(found)]

    async def run(self, walk: Walk, partition: str) -> str:
        """Name the run of the server that holds a partition."""
        key = keys.bridged(Partition(partition), walk.project, walk.topic)
        return text(await self._store.batch.fcall(self._function("walk_run"), (key,), ()))

    async def describe(
        self, devices: Sequence[DeviceId], topics: Sequence[TopicName]
    ) -> list[Walker]:
        """Read what selections ask for, of devices and these topics."""
        asked = [
            (
                device,
                self._store.batch.call(
                    "HMGET",
                    keys.mailbox(device),
                    *_PROFILE,
                    *(f"{_TOPIC}{topic}" for topic in topics),
                ),
            )
            for device in devices
        ]
        found = []
        for device, reply in asked:
            values = fields(await reply)
            platform, version, language, region, attributes = map(text, values[: len(_PROFILE)])
            profile = Profile(
                platform, version, language, region, "" if attributes == "{}" else attributes
            )
            cursors = zip(topics, values[len(_PROFILE) :], strict=True)
            subscribed = frozenset(topic for topic, cursor in cursors if cursor is not None)
            found.append(Walker(device, profile, subscribed))
        return found

    async def put(
        self, walk: Walk, partition: str, devices: Sequence[DeviceId], now_ms: int
    ) -> int:
        """Make a job for each device that waits for the message and has a bridge.

        Returns:
            How many jobs wait in the queue of one of these bridges.
        """
        owner, waiting = Partition(partition), 0
        for start in range(0, len(devices), WINDOW):
            reply = await self._store.batch.fcall(
                self._function("walk_put"),
                (keys.timers(owner), keys.walk_mark(owner, walk.message)),
                (
                    walk.message,
                    walk.project,
                    walk.topic,
                    walk.seq,
                    walk.created_ms,
                    walk.expires_ms,
                    walk.policy,
                    walk.receipts,
                    now_ms,
                    _SETTLE_MS,
                    *devices[start : start + WINDOW],
                ),
            )
            waiting = max(waiting, cast("list[int]", fields(reply))[1])
        return waiting

    async def pause(self, message: MessageId, until_ms: int) -> None:
        """Go on with a walk later."""
        await self._store.batch.fcall(
            self._function("timer_put_off"),
            (keys.timers(partition_of_message(message)),),
            (f"{WALK}:{message}", until_ms),
        )

    async def note(self, message: MessageId, place: Place) -> None:
        """Note how far a walk has come, where its message is still known."""
        await self._store.batch.fcall(
            self._function("walk_note"),
            (keys.message(message), keys.timers(partition_of_message(message))),
            (message, "|".join(place) if place.partition else ""),
        )

    async def reach(self, device: DeviceId) -> None:
        """Tell the topics of a device that a bridge reaches one of their subscribers.

        The timer goes unless the device changed meanwhile.
        """
        batch, partition = self._store.batch, partition_of(device)
        due = await batch.call("ZSCORE", keys.timers(partition), f"{REACH}:{device}")
        found = [text(item) for item in fields(await batch.call("HGETALL", keys.mailbox(device)))]
        values = dict(zip(found[::2], found[1::2], strict=True))
        if due is None:
            return
        topics = [TopicName(name[2:]) for name in values if name.startswith(_TOPIC)]
        if "br" in values:
            project = ProjectId(values["p"])
            calls = [
                batch.call("SET", keys.topic_bridged(project, topic), "1", "PX", _FLAG_MS)
                for topic in (*topics, TopicName("*"))
            ]
            for call in calls:
                await call
        await batch.fcall(
            self._function("timer_done"),
            (keys.timers(partition),),
            (f"{REACH}:{device}", cast("bytes", due)),
        )

    async def forget(self, message: MessageId) -> None:
        """End a walk."""
        partition = partition_of_message(message)
        await self._store.batch.call("ZREM", keys.timers(partition), f"{WALK}:{message}")
